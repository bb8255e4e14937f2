"""Checks that no object in topology.yaml still uses a name under ``retire`` or ``formerly``."""

from __future__ import annotations

from runner.config.document import Document
from runner.config.error_detail import Path
from runner.config.queue_policy import has_dead_letter_queue
from runner.config.topology_file import Topology
from runner.config.value import retry_queue_name
from runner.config.version import STREAM


def check_departures(topology: Topology, document: Document) -> None:
    """Report each name under ``retire`` or ``formerly`` that another object still needs."""
    _check_retire(topology, document)
    _check_formerly(topology, document)


def _check_retire(topology: Topology, document: Document) -> None:
    for section in ("queues", "exchanges", "policies"):
        for index, name in enumerate(getattr(topology.retire, section)):
            place: Path = ("retire", section, index)
            maker = _maker_of(name, topology) if section == "queues" else None
            if maker is not None and name not in document.keys_of(section):
                document.fault(place, f"still needed by {maker!r}, {document.shown(place)}; remove this line")
            if name in document.keys_of(section):
                document.fault(place, f"also under {section}, {document.shown(place)}; keep one of them")


def _check_formerly(topology: Topology, document: Document) -> None:
    """Report former names that are still in use.

    Otherwise, a queue would be moved into itself, or two queues into the same queue.
    """
    renamed: dict[str, str] = {}
    for name, queue in topology.queues.items():
        old = queue.formerly
        if old is None:
            continue
        place: Path = ("queues", name, "formerly")
        shown = document.shown(place)
        if old == name:
            document.fault(place, f"the queue's current name, {shown}; allowed: the queue's former name")
        elif old in document.keys_of("queues"):
            document.fault(place, f"also under queues, {shown}; allowed: a name that is no longer under queues")
        elif (maker := _maker_of(old, topology)) is not None:
            document.fault(place, f"still needed by {maker!r}, {shown}; allowed: a name that no queue needs")
        elif old in topology.retire.queues:
            document.fault(place, f"also under retire, {shown}; keep one of them")
        elif old.startswith("amq."):
            document.fault(place, f"reserved by the broker, {shown}; allowed: names that do not start with 'amq.'")
        elif topology.type_of(name) == STREAM:
            text = "'formerly' cannot be set for a stream; keep the name, because a stream's messages cannot be moved"
            document.fault(place, text)
        elif old in renamed:
            document.fault(place, f"also the former name of {renamed[old]!r}, {shown}; keep one of them")
        elif (whole := next((one for one in topology.renamed if _is_part(old, one)), None)) is not None:
            text = f"moved with {whole!r}, the former name of {topology.renamed[whole]!r}, {shown}; remove this line"
            document.fault(place, text)
        renamed.setdefault(old, name)


def _is_part(name: str, queue: str) -> bool:
    """Return True if ``name`` is the default name of a retry queue or dead-letter queue of ``queue``."""
    return name == f"{queue}.dlq" or name.startswith(f"{queue}.retry.")


def _maker_of(name: str, topology: Topology) -> str | None:
    """Return the queue whose retries or dead letters need a queue with this name, or None if no queue does."""
    for origin, queue in topology.queues.items():
        if any(name == retry_queue_name(origin, delay) for delay in queue.retry):
            return origin
        if name == topology.dead_letter_of(origin) and has_dead_letter_queue(origin, topology):
            return origin
    return None
