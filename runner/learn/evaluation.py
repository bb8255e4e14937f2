"""The comparison of an expectation with what was observed in a check."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runner.learn.expectation import Counted, Expectation
from runner.learn.files_seen import FilesSeen
from runner.learn.observation import ACCEPTED, Observation
from runner.learn.quantity import Quantity

SOME = Quantity(">0")
_ONE = re.compile(r"(more than |fewer than |at least |at most )?1")


@dataclass(frozen=True)
class Seen:
    """The result of one comparison."""

    is_met: bool
    #: The expectation as text, such as ``payment.order.created: 0 ready``.
    expected: str
    #: The observed value, in the same form.
    saw: str
    #: The observed value alone, for use in a sentence.
    value: str = ""
    #: True if nothing that happens later can change the result.
    is_decided: bool = False


def compare(one: Expectation, observed: Observation, files: FilesSeen) -> Seen:
    """Compare an expectation with an observation and the files."""
    return _COMPARE[one.subject](one, observed, files)


def _plural(count: object, noun: str, ending: str = "s") -> str:
    """Return a number with its noun, for example ``1 e-mail`` or ``at least 2 processes``."""
    return f"{count} {noun}{'' if _ONE.fullmatch(str(count)) else ending}"


def _queue(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.queue is not None  # noqa: S101 - for the type checker
    ready = observed.ready.get(one.queue)
    if one.keys is not None:
        keys = sorted(observed.keys.get(one.queue, ()))
        listed = ", ".join(keys) or "no message"
        wanted = ", ".join(sorted(one.keys)) or "no message"
        return Seen(keys == sorted(one.keys), f"{one.queue} contains {wanted}", f"it contains {listed}", listed)
    wanted_count = one.ready or SOME
    if ready is None:
        similar = difflib.get_close_matches(one.queue, [name for name in observed.ready if name != one.queue], n=1)
        hint = f"; your files have {similar[0]}" if similar else ""
        return Seen(False, f"{one.queue}: {wanted_count} ready", f"the queue {one.queue} does not exist{hint}", "0")
    seen = f"{one.queue}: {ready} ready, {observed.unacked(one.queue)} unacked"
    return Seen(wanted_count.matches(ready), f"{one.queue}: {wanted_count} ready", seen, str(ready))


def _of_type(text: str, counted: Counted) -> bool:
    if counted.type is None:
        return True
    return text.startswith(counted.type[:-1]) if counted.type.endswith(".*") else text == counted.type


def _emails(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.emails is not None  # noqa: S101 - for the type checker
    count = sum(_of_type(line.event or "", one.emails) for line in observed.emails())
    about = f" for {one.emails.type}" if one.emails.type else ""
    return Seen(
        one.emails.count.matches(count),
        f"{_plural(one.emails.count, 'e-mail')}{about}",
        _plural(count, "e-mail"),
        str(count),
    )


def _charges(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    charges = observed.charges()
    count, orders = sum(charges.values()), len(charges)
    saw = f"{_plural(count, 'charge')} for {_plural(orders, 'order')}"
    return Seen(one.charges.matches(count), _plural(one.charges, "charge"), saw, str(count))  # type: ignore[union-attr]


def _order(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.order is not None  # noqa: S101 - for the type checker
    statuses = list(observed.statuses().values())
    count, total = statuses.count(one.order.status), len(statuses)
    saw = ", ".join(f"{statuses.count(status)} {_status(status)}" for status in dict.fromkeys(statuses))
    if one.order.count is None:
        is_met = count == total > 0
        return Seen(is_met, f"every order is {_status(one.order.status)}", saw or "no order was accepted", str(count))
    wanted = f"{_plural(one.order.count, 'order')} {_status(one.order.status)}"
    return Seen(one.order.count.matches(count), wanted, saw or "no order was accepted", str(count))


def _status(status: str) -> str:
    return "accepted, without an outcome" if status == ACCEPTED else status.replace("_", "-")


def _attempts(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    orders = observed.accepted
    counts = [sum(row.order_id == order and row.service == one.by for row in observed.attempts) for order in orders]
    is_met = bool(orders) and all(one.attempts.matches(count) for count in counts)  # type: ignore[union-attr]
    seen = ", ".join(map(str, sorted(set(counts)))) or "0"
    wanted = f"{_plural(one.attempts, 'attempt')} by {one.by} for each order"
    return Seen(is_met, wanted, _plural(seen, "attempt"), seen)


def _handled_by(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    wanted: Mapping[str, Quantity] = one.handled_by or {}
    counts = {name: observed.handled(name) for name in wanted}
    is_met = all(quantity.matches(counts[name]) for name, quantity in wanted.items())
    expected = ", ".join(f"{name} handles {quantity}" for name, quantity in wanted.items())
    saw = ", ".join(f"{name} handled {count}" for name, count in counts.items())
    return Seen(is_met, expected, saw, str(next(iter(counts.values()))))


def _response(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    found = [found for found in observed.responses if one.within is None or found.took <= one.within]
    statuses = ", ".join(f"{count} x {status or 'no response'}" for status, count in _tally(observed))
    # No post follows the last step.
    is_decided = not observed.is_busy
    if isinstance(one.response, tuple):
        groups: dict[int, list[int]] = {}
        for response in observed.responses:
            groups.setdefault(response.group, []).append(response.status)
        is_met = [set(group) for group in groups.values()] == [{status} for status in one.response]
        expected = f"the responses {', '.join(map(str, one.response))}"
        return Seen(is_met, expected, statuses or "no response", statuses, is_decided)
    count = sum(response.status == one.response for response in found)
    within = f" within {one.within:g} s" if one.within else ""
    if one.count is None:
        is_met = count == len(observed.responses) > 0 and not observed.is_busy
        slowest = max((response.took for response in observed.responses), default=0.0)
        saw = f"{statuses or 'no response'}, the slowest after {slowest:.2f} s"
        return Seen(is_met, f"response {one.response} to every post{within}", saw, statuses, is_decided)
    is_met = one.count.matches(count) and not observed.is_busy
    expected = f"{_plural(one.count, 'response')} {one.response}{within}"
    return Seen(is_met, expected, statuses or "no response", str(count), is_decided)


def _tally(observed: Observation) -> list[tuple[int, int]]:
    statuses = [one.status for one in observed.responses]
    return [(status, statuses.count(status)) for status in dict.fromkeys(statuses)]


def _instances(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    wanted: Mapping[str, Quantity] = one.instances or {}
    counts = {name: observed.running(name) for name in wanted}
    is_met = all(quantity.matches(counts[name]) for name, quantity in wanted.items())
    expected = ", ".join(f"{_plural(quantity, 'process', 'es')} of {name}" for name, quantity in wanted.items())
    saw = ", ".join(f"{_plural(count, 'process', 'es')} of {name}" for name, count in counts.items())
    return Seen(is_met, expected, saw, str(next(iter(counts.values()))))


def _rows(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.rows is not None  # noqa: S101 - for the type checker
    count = sum(_of_type(row.type, one.rows) for row in observed.events)
    about = f" for {one.rows.type}" if one.rows.type else ""
    wanted = f"{_plural(one.rows.count, 'row')}{about}"
    return Seen(one.rows.count.matches(count), wanted, _plural(count, "row"), str(count))


def _event(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    count = sum(row.type == one.event for row in observed.events)
    wanted, noun = one.count or SOME, f"{one.event} event"
    return Seen(wanted.matches(count), _plural(wanted, noun), _plural(count, noun), str(count))


def _ledger(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.ledger is not None  # noqa: S101 - for the type checker
    lost = list(observed.statuses().values()).count(ACCEPTED)
    twice = sum(count > 1 for count in observed.charges().values())
    wanted = one.ledger
    is_met = (
        wanted.lost.matches(lost)
        and (wanted.twice is None or wanted.twice.matches(twice))
        and not (observed.is_busy or observed.outbox_waiting)
    )
    expected = f"{_plural(wanted.lost, 'order')} lost" + (f", {wanted.twice} charged twice" if wanted.twice else "")
    return Seen(is_met, expected, f"{lost} without an outcome, {twice} charged twice", str(twice or lost))


def _service(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    states = [str(slot["state"]) for slot in observed.slots if slot["service"] == one.service]
    wanted = one.state or "RUNNING"
    seen = ", ".join(dict.fromkeys(states)) or "not in config.yaml"
    return Seen(
        bool(states) and set(states) == {wanted}, f"{one.service} is {wanted}", f"{one.service} is {seen}", seen
    )


def _p95(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.p95 is not None  # noqa: S101 - for the type checker
    posted = {found.order: found.at for found in observed.responses if found.status == 202}
    mailed = {line.order: line.at for line in observed.emails() if line.event and line.event.startswith("payment.")}
    times = sorted(mailed.get(order, float("inf")) - at for order, at in posted.items())
    last = times[int(len(times) * 0.95)] if times else float("inf")
    seen = "some orders have no e-mail yet" if last == float("inf") else f"{last:.1f} s"
    earliest = f", none before {one.p95.min:g} s" if one.p95.min else ""
    is_met = last <= one.p95.max and min(times, default=0.0) >= one.p95.min
    return Seen(is_met, f"95 % of the e-mails within {one.p95.max:g} s{earliest}", seen, seen)


def _log(one: Expectation, observed: Observation, _: FilesSeen) -> Seen:
    assert one.log is not None  # noqa: S101 - for the type checker
    lines = [line for line in observed.lines if one.log.service in (None, line.service)]
    count = sum(re.search(one.log.matches, line.message) is not None for line in lines)
    wanted = f"{_plural(one.log.count, 'log line')} with {one.log.matches!r}"
    return Seen(one.log.count.matches(count), wanted, _plural(count, "such line"), str(count))


def _changed(one: Expectation, _: Observation, files: FilesSeen) -> Seen:
    is_met = one.changed.matches(files.changed)  # type: ignore[union-attr]
    return Seen(
        is_met, _plural(one.changed, "changed line"), _plural(files.changed, "changed line"), str(files.changed)
    )


def _route(one: Expectation, _: Observation, files: FilesSeen) -> Seen:
    assert one.route is not None  # noqa: S101 - for the type checker
    reached = sorted(files.route(one.route.exchange, one.route.key))
    is_met = set(one.route.reaches) <= set(reached) and not set(one.route.misses) & set(reached)
    parts = [f"reaches {', '.join(one.route.reaches)}"] if one.route.reaches else []
    parts += [f"does not reach {', '.join(one.route.misses)}"] if one.route.misses else []
    seen = ", ".join(reached) or "no queue"
    return Seen(is_met, f"{one.route.key} {' and '.join(parts)}", f"it reaches {seen}", seen)


def _config_error(one: Expectation, _: Observation, files: FilesSeen) -> Seen:
    found = [line for line in files.config_errors if re.search(str(one.config_error), line)]
    seen = next(iter(found or files.config_errors), "no configuration error")
    return Seen(bool(found), "a configuration error", seen, seen)


def _finding(one: Expectation, _: Observation, files: FilesSeen) -> Seen:
    seen = ", ".join(files.findings) or "no finding"
    return Seen(one.finding in files.findings, f"the finding {one.finding}", seen, seen)


def _prediction(one: Expectation, _: Observation, files: FilesSeen) -> Seen:
    seen = files.prediction or "none"
    return Seen(one.prediction == files.prediction, f"the prediction {one.prediction!r}", seen, seen)


_COMPARE: dict[str, Callable[[Expectation, Observation, FilesSeen], Seen]] = {
    "queue": _queue, "emails": _emails, "charges": _charges, "order": _order, "attempts": _attempts,
    "handled_by": _handled_by, "response": _response, "instances": _instances, "rows": _rows, "event": _event,
    "ledger": _ledger, "service": _service, "p95": _p95, "changed": _changed, "route": _route, "log": _log,
    "config_error": _config_error, "finding": _finding, "prediction": _prediction,
}  # fmt: skip
