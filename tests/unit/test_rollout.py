"""The steps in which a service reaches its desired state, with processes that the test controls."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.supervisor.rollout import Move, Seat, Step, next_step
from runner.supervisor.slot_lifecycle import SlotState

RIGHT, WRONG = True, False


def running(number: int, *, is_right: bool = True) -> Seat:
    return Seat(number, SlotState.RUNNING, is_right)


def test_missing_slots_are_added_and_surplus_ones_removed_from_the_end() -> None:
    assert next_step(2, []) == Step(Move.ADD, 1)
    assert next_step(2, [running(1)]) == Step(Move.ADD, 2)
    assert next_step(1, [running(1), running(2), running(3)]) == Step(Move.REMOVE, 3)
    assert next_step(2, [running(1), running(2)]) is None


def test_a_slot_is_not_filled_again_before_its_old_process_has_exited() -> None:
    assert next_step(1, [], leaving=[1]) is None
    assert next_step(1, [], leaving=[]) == Step(Move.ADD, 1)


def test_a_working_process_is_replaced_by_a_fresh_one_beside_it_and_drains_only_then() -> None:
    old = running(1, is_right=WRONG)
    assert next_step(1, [old]) == Step(Move.START_BESIDE, 1)
    assert next_step(1, [old], Seat(1, SlotState.STARTING, RIGHT)) is None
    assert next_step(1, [old], Seat(1, SlotState.RUNNING, RIGHT)) == Step(Move.PROMOTE, 1)


@pytest.mark.parametrize("state", [SlotState.BACKOFF, SlotState.FATAL, SlotState.EXITED, SlotState.STOPPED])
def test_a_fresh_process_that_does_not_become_ready_is_abandoned(state: SlotState) -> None:
    assert next_step(1, [running(1, is_right=WRONG)], Seat(1, state, RIGHT)) == Step(Move.ABANDON, 1)


def test_the_next_process_is_replaced_only_after_the_old_one_has_exited() -> None:
    seats = [running(1), running(2, is_right=WRONG)]
    assert next_step(2, seats, leaving=[1]) is None
    assert next_step(2, seats) == Step(Move.START_BESIDE, 2)


def test_a_process_that_does_no_work_is_restarted_in_its_slot() -> None:
    for state in (SlotState.BACKOFF, SlotState.FATAL, SlotState.STARTING, SlotState.WAITING, SlotState.EXITED):
        assert next_step(1, [Seat(1, state, WRONG)]) == Step(Move.RESTART, 1)


def test_a_process_that_cannot_run_twice_is_restarted_in_its_slot() -> None:
    assert next_step(1, [running(1, is_right=WRONG)], beside=False) == Step(Move.RESTART, 1)


def test_a_fresh_process_of_a_slot_that_is_no_longer_wanted_is_abandoned() -> None:
    incoming = Seat(2, SlotState.STARTING, RIGHT)
    assert next_step(1, [running(1)], incoming) == Step(Move.ABANDON, 2)
    stopped = Seat(2, SlotState.STOPPING, WRONG, wanted=False)
    assert next_step(2, [running(1), stopped], incoming) == Step(Move.ABANDON, 2)


class Rollout(RuleBasedStateMachine):
    """A service whose processes become ready, fail and exit in any order, with any requests in between."""

    @initialize(instances=st.integers(0, 4))
    def begin(self, instances: int) -> None:
        self.instances, self.version, self.serial = instances, 1, 0
        #: By number: state and version.
        self.seats: dict[int, tuple[SlotState, int]] = {}
        self.incoming: tuple[int, SlotState, int] | None = None
        self.leaving: list[int] = []
        self.converge()

    def step(self) -> Step | None:
        seats = [Seat(number, state, version == self.version) for number, (state, version) in self.seats.items()]
        incoming = None if self.incoming is None else Seat(self.incoming[0], self.incoming[1], RIGHT)
        return next_step(self.instances, seats, incoming, self.leaving)

    def converge(self) -> None:
        for _ in range(100):
            if (step := self.step()) is None:
                return
            self.take(step)
        raise AssertionError("it does not come to rest")

    def take(self, step: Step) -> None:
        number = step.number
        match step.move:
            case Move.ADD:
                assert number not in self.seats
                assert number not in self.leaving
                self.seats[number] = (SlotState.STARTING, self.version)
            case Move.REMOVE:
                del self.seats[number]
                self.leaving.append(number)
            case Move.START_BESIDE:
                assert self.incoming is None
                assert not self.leaving
                self.incoming = (number, SlotState.STARTING, self.version)
            case Move.PROMOTE:
                assert self.incoming is not None
                assert self.incoming[1] is SlotState.RUNNING
                self.seats[number] = (SlotState.RUNNING, self.incoming[2])
                self.leaving.append(number)
                self.incoming = None
            case Move.ABANDON:
                assert self.incoming is not None
                self.incoming = None
                self.leaving.append(number)
                if number in self.seats:
                    self.version = self.seats[number][1]
            case Move.RESTART:
                assert self.seats[number][0] is not SlotState.RUNNING
                self.seats[number] = (SlotState.STARTING, self.version)

    @rule(instances=st.integers(0, 4))
    def scale(self, instances: int) -> None:
        self.instances = instances
        self.converge()

    @rule()
    def change(self) -> None:
        self.serial += 1
        self.version = 1 + self.serial
        self.converge()

    @precondition(lambda self: self.seats)
    @rule(data=st.data(), state=st.sampled_from([SlotState.RUNNING, SlotState.BACKOFF, SlotState.FATAL]))
    def become(self, data: st.DataObject, state: SlotState) -> None:
        number = data.draw(st.sampled_from(sorted(self.seats)))
        self.seats[number] = (state, self.seats[number][1])
        self.converge()

    @precondition(lambda self: self.incoming)
    @rule(state=st.sampled_from([SlotState.RUNNING, SlotState.RUNNING, SlotState.BACKOFF]))
    def arrive(self, state: SlotState) -> None:
        assert self.incoming is not None
        before = sum(one is SlotState.RUNNING for one, _ in self.seats.values())
        self.incoming = (self.incoming[0], state, self.incoming[2])
        self.converge()
        assert sum(one is SlotState.RUNNING for one, _ in self.seats.values()) >= before

    @precondition(lambda self: self.leaving)
    @rule()
    def drain(self) -> None:
        self.leaving.pop()
        self.converge()

    @invariant()
    def no_more_than_one_process_too_many_works(self) -> None:
        assert len(self.seats) <= self.instances

    def teardown(self) -> None:
        for _ in range(100):
            self.leaving.clear()
            self.seats = {number: (SlotState.RUNNING, version) for number, (_, version) in self.seats.items()}
            if self.incoming is not None:
                self.incoming = (self.incoming[0], SlotState.RUNNING, self.incoming[2])
            self.converge()
        assert sorted(self.seats) == list(range(1, self.instances + 1))
        assert self.incoming is None
        assert all(version == self.version for _, version in self.seats.values())


TestRollout = Rollout.TestCase
TestRollout.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
