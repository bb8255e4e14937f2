"""Where the code under test gets virtual time, threads and connections in place of the real ones, for one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from runner.amqp import confirm_window as window
from runner.amqp import confirmation as verdict
from runner.amqp import consumer, link, properties, publisher
from runner.store import group_commit as writer
from runner.store import inbox
from runner.worker import crash, pipeline, publishing, recovery
from tests.simulation.database import WITHOUT_THREAD
from tests.simulation.thread import Condition, Room, SimpleQueue, Thread, Time

if TYPE_CHECKING:
    from tests.simulation.run import Simulation


@contextmanager
def installed(simulation: Simulation) -> Iterator[None]:
    """Within it, all of ``runner`` lives in the simulation."""
    turns = simulation.turns
    time = Time(turns)

    def thread(target: Any, args: Any, **_: object) -> Thread:
        return turns.thread(target, args)

    condition = partial(Condition, turns)
    stands_in: list[tuple[Any, str, Any]] = [
        (module, "time", time)
        for module in (
            consumer,
            link,
            properties,
            publisher,
            verdict,
            inbox,
            writer,
            crash,
            pipeline,
            publishing,
            recovery,
        )
    ]
    stands_in += [
        (pipeline, "threading", SimpleNamespace(Condition=condition, Thread=thread)),
        (pipeline, "SimpleQueue", partial(SimpleQueue, turns, simulation.slowness)),
        (crash, "threading", SimpleNamespace(Condition=condition)),
        (publisher, "ConfirmWindow", partial(Room, simulation.history)),
        (window, "threading", SimpleNamespace(Condition=condition)),
        (writer, "threading", WITHOUT_THREAD),
        (link, "random", simulation.random),
        (link, "parameters_of", lambda *_: None),
        (link, "chosen_connection", lambda: _connect),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in stands_in]
    for module, name, value in stands_in:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _connect(_: object, **callbacks: Any) -> Any:
    return callbacks["custom_ioloop"].connect(callbacks)
