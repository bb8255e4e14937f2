"""The problems of a running system, each with its reason in one sentence and a link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from runner.invocation import invocation

#: The number of ready messages from which a growing queue is reported.
LEAST_READY = 10


@dataclass(frozen=True)
class Symptom:
    """One sentence about a problem. ``text`` follows ``subject`` in the sentence."""

    #: ``bad``, ``warn`` or ``off``.
    level: str
    #: The name of the state's mark.
    mark: str
    subject: str
    text: str
    href: str
    link: str


def symptoms_of(frame: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the symptoms of a frame, with the worst first."""
    found = [*_system(frame), *_slots(frame), *_queues(frame)]
    order = {"bad": 0, "warn": 1, "off": 2}
    return [asdict(one) for one in sorted(found, key=lambda one: order[one.level])]


def title_of(frame: Mapping[str, Any]) -> str:
    """Return the title of the browser tab, which counts the problems."""
    dead = sum(one.get("dead") or 0 for one in frame["queues"].values())
    states = [one["state"] for one in frame["slots"].values()]
    counts = [
        (dead, "dead"),
        (states.count("FATAL"), "failed"),
        (states.count("BACKOFF"), "restarting"),
        (sum(one.get("unrouted") or 0 for one in frame["queues"].values()), "unroutable"),
    ]
    words = [f"{count} {word}" for count, word in counts if count]
    if frame["live"] != "ok":
        words.insert(0, "no supervisor")
    return " · ".join([", ".join(words), "FastCommerce"] if words else ["FastCommerce"])


def _system(frame: Mapping[str, Any]) -> Iterator[Symptom]:
    if frame["live"] != "ok":
        yield Symptom("bad", "fatal", "The supervisor", f"does not answer: {frame['live']}", "/services", "Services")
    if problem := frame.get("broker_problem"):
        yield Symptom("bad", "fatal", "RabbitMQ", f"does not answer: {problem}", "/services", "Services")
    for problem in frame.get("file_problems", ())[:3]:
        yield Symptom("bad", "fatal", problem["place"], problem["text"], "/topology", "Open Topology")


def _slots(frame: Mapping[str, Any]) -> Iterator[Symptom]:
    for name, slot in frame["slots"].items():
        href = f"/services?{urlencode({'slot': name})}"
        why = slot.get("why") or slot.get("problem") or ""
        match slot["state"]:
            case "FATAL":
                yield Symptom("bad", "fatal", name, f"has failed: {why}", href, f"Logs of {name}")
            case "BACKOFF":
                yield Symptom("warn", "restart", name, f"restarts: {why}", href, f"Logs of {name}")
            case "WAITING":
                yield Symptom("warn", "wait", name, f"is {why}", _target_of(why, href), "Show the cause")
            case "STOPPED":
                # The reason is a sentence of its own, for example "start it with: ...".
                text = f"was stopped. {why[:1].upper()}{why[1:]}".rstrip()
                yield Symptom("off", "stop", name, text, href, f"Start {slot['service']}")
            case "RUNNING" if slot.get("problem"):
                yield Symptom("warn", "restart", name, why, href, f"Logs of {name}")


def _target_of(why: str, otherwise: str) -> str:
    """Return the link to what a slot waits for."""
    return "/topology" if "topology" in why else otherwise


@lru_cache(maxsize=4096)
def _link_to(queue: str) -> str:
    """Return the link to a queue in the picture. Encoding all links again took a fifth of the time of a frame."""
    return f"/?{urlencode({'node': f'queue {queue}'})}"


def _queues(frame: Mapping[str, Any]) -> Iterator[Symptom]:
    for name, queue in frame["queues"].items():
        show = _link_to(name)
        ready, growth = queue.get("ready") or 0, queue.get("growth")
        if queue.get("missing"):
            text = f"does not exist on the broker; see {invocation('plan')}"
            yield Symptom("bad", "fatal", name, text, "/topology", "Show the plan")
            continue
        if queue.get("unrouted"):
            count = queue["unrouted"]
            text = f"contains {count:,} {_messages(count)} that no binding matched."
            yield Symptom("bad", "unrouted", name, text, show, "Show")
        elif ready and not queue.get("consumers") and queue.get("consumed_by"):
            text = f"has no consumer, and {ready:,} {_messages(ready)} {'is' if ready == 1 else 'are'} ready."
            yield Symptom("bad", "grow", name, text, show, "Show")
        elif growth and ready >= LEAST_READY:
            rate = queue["growth_rate"]
            text = f"grows by {rate:g} {_messages(rate)} a second, and {ready:,} are ready."
            services = queue.get("consumed_by") or []
            link = f"Scale {services[0]}" if services else "Show"
            yield Symptom("warn", "grow", name, text, show, link)
        if dead := queue.get("dead"):
            href = f"/dead-letters?queue={quote(name)}"
            text = f"has {dead:,} dead {'letter' if dead == 1 else 'letters'}."
            yield Symptom("bad", "dead", name, text, href, "Open dead letters")


def _messages(count: float) -> str:
    return "message" if count == 1 else "messages"
