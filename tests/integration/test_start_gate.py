"""The start gate. It repeats the preparation until it succeeds, and no more often than needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runner.errors import BrokerUnreachable
from runner.supervisor.start_gate import Gate


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def run(prepare: Callable[[int], None], script: Callable[[Gate, list[int]], Callable[[], bool]]) -> list[int]:
    """Run a script with a gate until the condition that it returns is true. Return the numbers of the attempts."""
    attempts: list[int] = []

    def counted() -> None:
        attempts.append(len(attempts) + 1)
        prepare(len(attempts))

    async def main() -> None:
        gate = Gate(counted, lambda: None, lambda error: None)
        await until(script(gate, attempts))
        gate.close()

    asyncio.run(main())
    return attempts


def test_the_preparation_is_repeated_until_the_broker_answers() -> None:
    def prepare(number: int) -> None:
        if number < 3:
            raise BrokerUnreachable("not yet")

    def script(gate: Gate, _: list[int]) -> Callable[[], bool]:
        gate.ensure()
        return lambda: gate.is_open

    assert run(prepare, script) == [1, 2, 3]


def test_many_requests_cause_one_preparation() -> None:
    def script(gate: Gate, _: list[int]) -> Callable[[], bool]:
        gate.invalidate("a worker found no queue")
        for _number in range(10):
            gate.ensure()
        return lambda: gate.is_open

    assert run(lambda number: None, script) == [1]


def test_a_result_from_before_the_broker_stopped_does_not_count() -> None:
    def script(gate: Gate, attempts: list[int]) -> Callable[[], bool]:
        gate.ensure()
        gate.shut("the broker has ended")
        return lambda: gate.is_open and len(attempts) == 2

    assert run(lambda number: None, script) == [1, 2]


def test_a_failure_after_the_close_schedules_no_attempt() -> None:
    def prepare() -> None:
        raise BrokerUnreachable("gone")

    async def main() -> None:
        gate = Gate(prepare, lambda: None, lambda error: None)
        gate.ensure()
        gate.close()
        await until(lambda: not gate._is_preparing)
        assert gate._timer is None
        assert not gate.is_open

    asyncio.run(main())
