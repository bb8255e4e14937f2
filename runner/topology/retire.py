"""The deletion of the objects under ``retire`` without loss of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from runner.config.error_detail import Path, misspelt
from runner.config.topology_file import Retire
from runner.topology.compile import dead_letter_queue, policy_name
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Objects, Queue
from runner.topology.plan import Change, Mark

#: The suffix of a generated dead-letter queue's name.
DEAD_LETTERS = ".dlq"
_WITH_QUEUE = "deleted with its queue"


def retired(objects: Objects, live: Live, retire: Retire) -> Iterator[Change]:
    """Yield the deletions of the objects under ``retire`` and of their parts.

    The parts of a queue are FastCommerce's bindings to the queue, its retry queues, its policy and its generated
    dead-letter queue. The bindings come first, so that the queue can become empty.
    """
    needed = {one.name for one in objects.queues} | {one.name for one in objects.exchanges}
    queues = [name for name in retire.queues if name in live.queues and name not in needed]
    for key in sorted(live.owned.bindings & live.bindings.keys()):
        if key[1] == "queue" and key[2] in queues:
            yield Change(Mark.RETIRE, live.bindings[key].binding, _WITH_QUEUE)
    waiting = [
        name
        for queue in retire.queues
        for name in sorted(live.owned.queues & live.queues.keys())
        if name.startswith(f"{queue}.retry.") and name not in needed and name not in queues
    ]
    for name in waiting:
        there = live.queues[name]
        yield Change(Mark.RETIRE, there.queue, _WITH_QUEUE, there.messages, there.consumers)
    for name in queues:
        there = live.queues[name]
        yield Change(Mark.RETIRE, there.queue, "", there.messages, there.consumers)
    for name in _dead_letter_queues(live, retire):
        if name not in needed and name not in queues:
            there = live.queues[name]
            yield Change(Mark.RETIRE, there.queue, _WITH_QUEUE, there.messages, there.consumers)
    exchanges = [name for name in retire.exchanges if name in live.exchanges and name not in needed]
    for name in exchanges:
        yield Change(Mark.RETIRE, live.exchanges[name])
    generated = [policy_name("queue", name) for name in queues] + [policy_name("exchange", name) for name in exchanges]
    for name in (*retire.policies, *generated):
        if name in live.policies:
            yield Change(Mark.RETIRE, live.policies[name], "" if name in retire.policies else "deleted with its object")


def missing(live: Live, retire: Retire) -> Iterator[tuple[Path, str]]:
    """Yield a warning for each name under ``retire`` that the broker does not have, with the path of the name."""
    there = {"queues": live.queues, "exchanges": live.exchanges, "policies": live.policies}
    for section, names in there.items():
        for index, name in enumerate(getattr(retire, section)):
            if name not in names:
                near = misspelt(name, names)
                remedy = (
                    f"did you mean {near!r}?" if near is not None else "remove the entry if the object has been deleted"
                )
                yield ("retire", section, index), f"retire.{section}: the broker has no {name!r}; {remedy}"


def _dead_letter_queues(live: Live, retire: Retire) -> Iterator[str]:
    """Yield the generated dead-letter queues that have no binding and that no other queue's policy uses."""
    bound = {key[2] for key in live.bindings if key[1] == "queue"}
    going = {policy_name("queue", name) for name in retire.queues}
    led = {one.definition.get("dead-letter-routing-key") for name, one in live.policies.items() if name not in going}
    for queue in retire.queues:
        name = f"{queue}{DEAD_LETTERS}"
        is_ours = name in live.owned.queues and name in live.queues and name not in bound | led
        if is_ours and live.queues[name].queue == dead_letter_queue(name):
            yield name


def delete(
    changes: Sequence[Change],
    in_use: Callable[[str], str | None],
    delete_one: Callable[[Change], None],
    did: Callable[[Change], None],
) -> tuple[Owned, list[tuple[Change, str]]]:
    """Delete all objects that are not in use. Return the deleted objects, and the kept objects with the reasons.

    ``in_use`` returns the reason to keep a queue, or None if there is none. ``did`` is called with each completed
    change.

    A queue, its retry queues and its policy are deleted together or not at all. The dead-letter queue of a queue is
    deleted last.
    """
    # Bindings are deleted first, so that messages stop arriving.
    keys = frozenset(one.thing.key for one in changes if isinstance(one.thing, Binding))
    for change in changes:
        if isinstance(change.thing, Binding):
            delete_one(change)
            did(change)
    queues = [one for one in changes if isinstance(one.thing, Queue)]
    reasons = [(one, reason) for one in queues if (reason := in_use(one.name)) is not None]
    used = [one.name for one, _ in reasons]
    stay = {one.name for one in queues if any(_are_one(one.name, other) for other in used)}
    # A kept queue may need its dead-letter queue. A kept dead-letter queue does not need its queue.
    stay |= {f"{name}{DEAD_LETTERS}" for name in stay}
    stay |= {policy_name("queue", name) for name in stay}
    gone: dict[str, set[str]] = {"queue": set(), "exchange": set(), "policy": set()}
    for change in changes:
        if not isinstance(change.thing, Binding) and change.name not in stay:
            delete_one(change)
            did(change)
            gone[change.kind].add(change.name)
    return Owned(frozenset(gone["exchange"]), frozenset(gone["queue"]), frozenset(gone["policy"]), keys), reasons


def _are_one(name: str, other: str) -> bool:
    return name.partition(".retry.")[0] == other.partition(".retry.")[0]
