"""The lifecycle of a slot, with a clock that the test moves."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runner.backoff import Backoff
from runner.supervisor.program import Restart, RestartLimit, RestartPolicy
from runner.supervisor.slot_event import (
    Event,
    Exited,
    Go,
    MemoryExceeded,
    Ready,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Tick,
    WatchdogPing,
    WatchdogTrigger,
)
from runner.supervisor.slot_lifecycle import (
    Slot,
    SlotAction,
    SlotState,
    describe_exit,
    step,
)

KILLED, TERMINATED, SEGFAULT = -signal.SIGKILL, -signal.SIGTERM, -signal.SIGSEGV
#: No random part: the whole delay.
DRAW = 1.0


class Life:
    """A slot and its clock, which records the actions."""

    def __init__(self, policy: RestartPolicy | None = None) -> None:
        self.slot = Slot("payment.1", policy or RestartPolicy())
        self.now = 1000.0
        self.actions: list[SlotAction] = []

    def feed(self, *events: Event, after: float = 0.0) -> Life:
        self.now += after
        for event in events:
            self.slot, actions = step(self.slot, event, self.now)
            self.actions.extend(actions)
        return self

    def running(self) -> Life:
        return self.feed(Start(), Go(), Spawned(7), Ready())

    def again(self) -> Life:
        """Move from BACKOFF back to RUNNING."""
        assert self.slot.deadline is not None
        return self.feed(Tick(), after=self.slot.deadline - self.now).feed(Go(), Spawned(8), Ready())

    @property
    def delay(self) -> float:
        assert self.slot.deadline is not None
        return self.slot.deadline - self.now


def test_a_slot_waits_for_its_dependencies_then_starts_then_runs() -> None:
    life = Life()
    states = [life.feed(event).slot.state for event in (Start(), Go(), Spawned(7), Ready())]
    assert states == [SlotState.WAITING, SlotState.STARTING, SlotState.STARTING, SlotState.RUNNING]
    assert life.actions == [SlotAction.SPAWN]
    assert life.slot.pid == 7


@pytest.mark.parametrize("code", [0, 1, 2, SEGFAULT])
def test_a_crashed_worker_that_was_ready_restarts_at_once(code: int) -> None:
    life = Life().running().feed(Exited(code, DRAW), after=1)
    assert life.slot.state is SlotState.BACKOFF
    assert life.delay == 0
    assert len(life.slot.failures) == 1
    assert life.again().slot.state is SlotState.RUNNING
    assert life.slot.restarts == 1


def test_a_second_crash_waits_and_each_further_one_twice_as_long() -> None:
    life = Life(RestartPolicy(restart_limit=RestartLimit(count=100))).running().feed(Exited(1, DRAW))
    delays = [life.again().feed(Exited(1, DRAW)).delay for _ in range(9)]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_worker_that_never_becomes_ready_waits_from_the_first_failure_on() -> None:
    life = Life().feed(Start(), Go(), Spawned(7), Exited(1, DRAW))
    assert life.delay == 0.5


def test_five_failures_within_a_minute_are_fatal_with_the_last_reason() -> None:
    life = Life().running()
    for _ in range(4):
        life.feed(Exited(1, 0.0)).again()
    life.feed(Exited(SEGFAULT, 0.0))
    assert life.slot.state is SlotState.FATAL
    assert life.slot.why == "5 failures within 60 s; the last: killed by SIGSEGV"
    assert (life.slot.deadline, life.slot.pid) == (None, None)


def test_deaths_by_a_message_that_was_blamed_before_are_not_counted() -> None:
    life = Life().running()
    for _ in range(20):
        life.feed(Exited(SEGFAULT, 0.0, is_known=True))
        assert life.delay <= 1
        life.again()
    assert (life.slot.failures, life.slot.attempt) == ((), 0)
    assert life.feed(Exited(SEGFAULT, 0.0)).slot.failures != ()


@pytest.mark.parametrize("is_stopping", [False, True])
def test_a_process_that_uses_too_much_memory_is_killed_at_once_and_that_counts_as_a_failure(
    *, is_stopping: bool
) -> None:
    life = Life().running()
    if is_stopping:
        life.feed(Stop(), Start())
    life.feed(MemoryExceeded("took 300 MiB"))
    assert life.actions[-1] is SlotAction.KILL
    life.feed(Exited(KILLED, DRAW))
    assert life.slot.last_reason == "killed by SIGKILL, took 300 MiB"
    assert life.slot.state is (SlotState.WAITING if is_stopping else SlotState.BACKOFF)
    assert len(life.slot.failures) == (0 if is_stopping else 1)


def test_failures_further_apart_than_the_window_are_never_fatal() -> None:
    life = Life(RestartPolicy(reset_after=1e9)).running()
    for _ in range(50):
        life.feed(Exited(1, 0.0), after=15).again()
    assert life.slot.state is SlotState.RUNNING


def test_a_minute_of_work_clears_earlier_failures() -> None:
    life = Life().running()
    for _ in range(4):
        life.feed(Exited(1, 0.0)).again()
    life.feed(Exited(1, DRAW), after=60)
    assert life.slot.state is SlotState.BACKOFF
    assert (life.delay, len(life.slot.failures)) == (0, 1)


def test_a_wrong_configuration_is_fatal_at_once() -> None:
    life = Life().feed(Start(), Go(), Spawned(7), Exited(78, DRAW))
    assert life.slot.state is SlotState.FATAL
    assert life.slot.why == "exited with status 78 (configuration error)"


@pytest.mark.parametrize("is_ready", [True, False])
@pytest.mark.parametrize("code", [74, 75, KILLED, TERMINATED])
def test_an_exit_with_an_outside_cause_is_never_counted(code: int, is_ready: bool) -> None:
    life = Life().feed(Start())
    for _ in range(30):
        life.feed(Go(), Spawned(7), *([Ready()] if is_ready else []), Exited(code, 0.0), Tick())
        assert life.slot.state in (SlotState.BACKOFF, SlotState.WAITING)
        life.feed(Tick(), after=30)
    assert life.slot.failures == ()
    assert life.slot.restarts == 30


def test_a_broker_that_stays_unreachable_is_asked_less_and_less_often() -> None:
    life = Life().running().feed(Exited(75, DRAW))
    delays = [life.again().feed(Exited(75, DRAW)).delay for _ in range(8)]
    assert delays[-1] == 30
    assert life.slot.why == "exited with status 75 (broker unreachable or topology missing)"


def test_a_worker_killed_from_outside_restarts_at_once() -> None:
    life = Life().running().feed(Exited(KILLED, DRAW))
    assert life.delay == 0
    assert life.slot.why == "killed by SIGKILL"


def test_a_worker_that_does_not_become_ready_is_killed_and_that_counts() -> None:
    life = Life().feed(Start(), Go(), Spawned(7)).feed(Tick(), after=29.9)
    assert life.actions == [SlotAction.SPAWN]
    life.feed(Tick(), after=0.1)
    assert life.actions == [SlotAction.SPAWN, SlotAction.ABORT]
    life.feed(Tick(), after=2)
    assert life.actions == [SlotAction.SPAWN, SlotAction.ABORT, SlotAction.KILL]
    life.feed(Exited(KILLED, DRAW))
    assert life.slot.why == "killed by SIGKILL, not ready within 30 s"
    assert len(life.slot.failures) == 1


def test_a_worker_that_reports_ready_after_its_kill_does_not_run() -> None:
    life = Life().feed(Start(), Go(), Spawned(7)).feed(Tick(), after=30).feed(Ready())
    assert life.slot.state is SlotState.STARTING
    life.feed(Exited(KILLED, DRAW))
    assert len(life.slot.failures) == 1


def test_a_process_that_cannot_be_started_is_a_failure_with_its_reason() -> None:
    life = Life().feed(Start(), Go(), SpawnFailed("python: No such file or directory", DRAW))
    assert life.slot.state is SlotState.BACKOFF
    assert life.slot.why == "python: No such file or directory"
    assert len(life.slot.failures) == 1


def test_a_stop_terminates_and_then_kills_until_the_exit_is_seen() -> None:
    life = Life().running().feed(Stop())
    assert life.actions == [SlotAction.SPAWN, SlotAction.TERMINATE]
    assert life.slot.state is SlotState.STOPPING
    life.feed(Tick(), after=6).feed(Tick(), after=6)
    assert life.actions[2:] == [SlotAction.KILL, SlotAction.KILL]
    assert life.slot.why == "did not stop within 6 s"
    life.feed(Exited(KILLED, DRAW))
    assert (life.slot.state, life.slot.pid, life.slot.deadline, life.slot.failures) == (
        SlotState.STOPPED,
        None,
        None,
        (),
    )


@pytest.mark.parametrize("code", [0, 1, 75, 78, KILLED])
def test_any_exit_after_a_stop_is_no_failure(code: int) -> None:
    assert Life().running().feed(Stop(), Exited(code, DRAW)).slot.state is SlotState.STOPPED


def test_a_stop_ends_waiting_backoff_and_fatal_without_any_process() -> None:
    for life in (
        Life().feed(Start()),
        Life().running().feed(Exited(1, DRAW)),
        Life().running().feed(Exited(78, DRAW)),
        Life(),
    ):
        before = list(life.actions)
        life.feed(Stop())
        assert life.slot.state is SlotState.STOPPED
        life.feed(Go(), Tick(), Ready(), after=100)
        assert life.actions == before
        assert life.slot.state is SlotState.STOPPED


def test_a_start_during_a_stop_starts_again_after_the_old_process_has_exited() -> None:
    life = Life().running().feed(Stop(), Start())
    states = [life.feed(event).slot.state for event in (Go(), Exited(0, DRAW))]
    assert states == [SlotState.STOPPING, SlotState.WAITING]
    assert life.feed(Go()).actions == [SlotAction.SPAWN, SlotAction.TERMINATE, SlotAction.SPAWN]


def test_a_start_of_a_slot_that_was_given_up_forgets_its_failures() -> None:
    life = Life().running()
    for _ in range(4):
        life.feed(Exited(1, 0.0)).again()
    life.feed(Exited(1, 0.0), Start())
    assert (life.slot.state, life.slot.failures, life.slot.attempt, life.slot.why) == (SlotState.WAITING, (), 0, "")


def test_a_stop_before_the_process_exists_still_ends_it() -> None:
    life = Life().feed(Start(), Go(), Stop(), Spawned(7))
    assert (life.slot.state, life.slot.pid) == (SlotState.STOPPING, 7)
    assert life.feed(Tick(), after=6).actions[-1] is SlotAction.KILL


@pytest.mark.parametrize("state", list(SlotState))
@pytest.mark.parametrize(
    "event",
    [Go(), Spawned(9), SpawnFailed("x", 0.5), Ready(), WatchdogPing(), WatchdogTrigger("x"), Exited(1, 0.5), Tick()],
)
def test_an_event_without_a_meaning_in_a_state_changes_nothing(state: SlotState, event: Event) -> None:
    meant = {
        Go: {SlotState.WAITING},
        Spawned: {SlotState.STARTING, SlotState.STOPPING},
        SpawnFailed: {SlotState.STARTING, SlotState.STOPPING},
        Ready: {SlotState.STARTING},
        WatchdogPing: {SlotState.RUNNING},
        WatchdogTrigger: {SlotState.RUNNING},
        Exited: {SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING},
        Tick: set(),
    }
    slot = replace(Slot("payment.1"), state=state)
    if state not in meant[type(event)]:
        assert step(slot, event, 5.0) == (slot, ())


@settings(deadline=None)
@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(1, 10), st.floats(0.001, 10), st.floats(10, 1000))
def test_a_delay_is_between_half_and_all_of_its_value_and_never_overflows(
    attempt: int, draw: float, factor: float, initial: float, longest: float
) -> None:
    backoff = Backoff(initial=initial, factor=factor, max=longest, jitter=0.5)
    delay = backoff.delay(attempt, draw)
    assert initial / 2 <= delay <= longest
    assert backoff.delay(attempt + 1, draw) >= delay
    assert backoff.delay(attempt, 0) == pytest.approx(backoff.delay(attempt, 1) / 2)
    assert Backoff(initial, max=initial, jitter=0).delay(1, draw) == initial


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exited with status 0 unexpectedly"),
        (1, "exited with status 1"),
        (75, "exited with status 75 (broker unreachable or topology missing)"),
        (78, "exited with status 78 (configuration error)"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-63, "killed by signal 63"),
    ],
)
def test_an_exit_is_described_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def watched(watchdog: float = 30) -> Life:
    return Life(RestartPolicy(watchdog=watchdog)).running()


def test_a_process_without_watchdog_pings_writes_its_stacks_and_is_killed_and_that_counts() -> None:
    life = watched().feed(Tick(), after=29.9)
    assert life.actions == [SlotAction.SPAWN]
    life.feed(Tick(), after=0.1)
    assert life.actions == [SlotAction.SPAWN, SlotAction.ABORT]
    assert (life.slot.state, life.slot.why, life.delay) == (SlotState.RUNNING, "sent no watchdog ping for 30 s", 2)
    life.feed(WatchdogPing(), Ready(), WatchdogTrigger("more"), after=1)
    assert (life.slot.why, life.delay) == ("sent no watchdog ping for 30 s", 1), "it was being killed"
    life.feed(Tick(), after=1).feed(Tick(), after=6)
    assert life.actions[2:] == [SlotAction.KILL, SlotAction.KILL]
    life.feed(Exited(KILLED, DRAW))
    assert life.slot.why == "killed by SIGKILL, sent no watchdog ping for 30 s"
    assert len(life.slot.failures) == 1


def test_watchdog_pings_keep_it_alive() -> None:
    life = watched()
    for _ in range(100):
        life.feed(Tick(), WatchdogPing(), after=29)
    assert (life.slot.state, life.actions) == (SlotState.RUNNING, [SlotAction.SPAWN])


def test_without_a_watchdog_no_ping_is_expected() -> None:
    life = watched(0).feed(Tick(), after=1e6)
    assert (life.slot.state, life.slot.deadline, life.actions) == (SlotState.RUNNING, None, [SlotAction.SPAWN])


def test_a_process_that_triggers_its_watchdog_is_killed_with_its_own_reason() -> None:
    life = watched(0).feed(WatchdogTrigger("lost its consumer"))
    assert life.actions[-1] is SlotAction.ABORT
    life.feed(Exited(-signal.SIGABRT, DRAW), after=0.1)
    assert life.slot.why == "killed by SIGABRT, lost its consumer"
    assert life.delay == 0, "it was ready before"


def test_a_stop_of_a_hanging_process_is_a_stop() -> None:
    life = watched().feed(WatchdogTrigger("x"), Stop(), Exited(KILLED, DRAW))
    assert life.slot.state is SlotState.STOPPED


@pytest.mark.parametrize(
    ("restart", "code", "state"),
    [
        (Restart.ALWAYS, 0, SlotState.BACKOFF),
        (Restart.ON_FAILURE, 0, SlotState.EXITED),
        (Restart.ON_FAILURE, 1, SlotState.BACKOFF),
        (Restart.ON_FAILURE, KILLED, SlotState.BACKOFF),
        (Restart.ON_FAILURE, 75, SlotState.BACKOFF),
        (Restart.NEVER, 0, SlotState.EXITED),
        (Restart.NEVER, 1, SlotState.EXITED),
        (Restart.NEVER, KILLED, SlotState.EXITED),
        (Restart.NEVER, 78, SlotState.FATAL),
    ],
)
def test_the_policy_decides_which_exits_cause_a_restart(restart: Restart, code: int, state: SlotState) -> None:
    life = Life(RestartPolicy(restart=restart)).running().feed(Exited(code, DRAW))
    assert life.slot.state is state
    assert (life.slot.last_exit, life.slot.last_exit_at) == (code, life.now)
    assert life.feed(Start()).slot.state is (SlotState.BACKOFF if state is SlotState.BACKOFF else SlotState.WAITING)


def test_starts_that_never_become_ready_are_given_up_after_the_limit_however_long_they_take() -> None:
    life = Life().feed(Start())
    for _ in range(5):
        life.feed(Tick(), after=100).feed(Go(), Spawned(7)).feed(Tick(), after=30).feed(Exited(KILLED, DRAW))
    assert life.slot.state is SlotState.FATAL
    assert life.slot.why == "5 consecutive starts failed; the last: killed by SIGKILL, not ready within 30 s"


def test_a_process_that_becomes_ready_clears_failed_starts() -> None:
    life = Life().feed(Start())
    for _ in range(20):
        life.feed(Tick(), after=100).feed(Go(), Spawned(7), Exited(1, DRAW))
        life.feed(Tick(), after=100).feed(Go(), Spawned(7), Ready()).feed(Exited(1, DRAW), after=1)
    assert life.slot.state is SlotState.BACKOFF


@pytest.mark.parametrize("end", [Exited(-11, DRAW, is_known=True), Exited(KILLED, DRAW), Exited(TERMINATED, DRAW)])
def test_a_start_that_became_ready_ends_a_series_of_failed_starts_however_its_process_exits(end: Exited) -> None:
    life = Life(RestartPolicy(restart_limit=RestartLimit(2, 5.0))).feed(Start())
    life.feed(Go(), SpawnFailed("no more processes", DRAW)).feed(Tick(), after=100)
    life.feed(Go(), Spawned(7), Ready(), end).feed(Tick(), after=100)
    life.feed(Go(), SpawnFailed("no more processes", DRAW))
    assert life.slot.state is SlotState.BACKOFF


class SlotMachine(RuleBasedStateMachine):
    """Events in any order, compared with a plain list of the rules."""

    @initialize(
        count=st.integers(1, 5),
        window=st.sampled_from([5.0, 60.0]),
        reset_after=st.sampled_from([1.0, 60.0, 1e9]),
        restart=st.sampled_from(Restart),
        watchdog=st.sampled_from([0.0, 10.0]),
    )
    def begin(self, count: int, window: float, reset_after: float, restart: Restart, watchdog: float) -> None:
        self.policy = RestartPolicy(
            restart, reset_after=reset_after, restart_limit=RestartLimit(count, window), watchdog=watchdog
        )
        self.slot = Slot("payment.1", self.policy)
        self.now = 1000.0
        self.pids = 100
        self.live: int | None = None
        self.is_wanted = False
        self.ready_at: float | None = None
        self.killed_at: float | None = None
        self.counted: list[float] = []
        self.unready = 0
        self.spawned: set[int] = set()
        self.reaped: set[int] = set()

    def feed(self, event: Event) -> tuple[SlotAction, ...]:
        self.slot, actions = step(self.slot, event, self.now)
        for action in actions:
            if action is SlotAction.SPAWN:
                assert self.live is None, "two processes in one slot"
                assert self.is_wanted, "a start after a stop"
            else:
                assert self.live is not None
            if action in (SlotAction.KILL, SlotAction.ABORT):
                self.killed_at = self.now
        return actions

    @rule()
    def start(self) -> None:
        if self.slot.state in (SlotState.STOPPED, SlotState.FATAL, SlotState.EXITED):
            self.counted.clear()
            self.unready = 0
        self.is_wanted = True
        assert self.feed(Start()) == ()

    @rule()
    def stop(self) -> None:
        self.is_wanted = False
        self.feed(Stop())
        assert self.slot.state in (
            (SlotState.STOPPED, SlotState.EXITED) if self.live is None else (SlotState.STOPPING,)
        )

    @rule(is_made=st.sampled_from([True, True, True, False]), draw=st.floats(0, 1))
    def go(self, is_made: bool, draw: float) -> None:
        if SlotAction.SPAWN not in self.feed(Go()):
            return
        self.ready_at = self.killed_at = None
        if is_made:
            self.pids += 1
            self.live = self.pids
            self.spawned.add(self.live)
            assert self.feed(Spawned(self.live)) == ()
            assert self.slot.state is SlotState.STARTING
        else:
            assert self.feed(SpawnFailed("no more processes", draw)) == ()
            self.account(is_counted=True)

    @precondition(lambda self: self.live is not None)
    @rule()
    def get_ready(self) -> None:
        if self.slot.state is SlotState.STARTING and self.killed_at is None:
            self.ready_at = self.now
            self.unready = 0
        self.feed(Ready())

    @precondition(lambda self: self.live is not None)
    @rule(is_well=st.booleans())
    def give_a_sign(self, is_well: bool) -> None:
        was_well = self.slot.state is SlotState.RUNNING and self.killed_at is None
        actions = self.feed(WatchdogPing() if is_well else WatchdogTrigger("its work does not go on"))
        assert actions == ((SlotAction.ABORT,) if was_well and not is_well else ())

    @precondition(lambda self: self.live is not None)
    @rule()
    def exceed_memory(self) -> None:
        assert self.feed(MemoryExceeded("took too much memory")) == (SlotAction.KILL,)
        self.killed_at = self.now

    @precondition(lambda self: self.live is not None)
    @rule(
        code=st.sampled_from([0, 1, 1, 1, 75, 78, KILLED, TERMINATED, SEGFAULT]),
        draw=st.floats(0, 1),
        is_known=st.booleans(),
    )
    def exit(self, code: int, draw: float, *, is_known: bool) -> None:
        was_stopping = self.slot.state is SlotState.STOPPING
        assert self.live is not None
        assert self.live not in self.reaped
        self.reaped.add(self.live)
        self.live = None
        assert self.feed(Exited(code, draw, is_known)) == ()
        if was_stopping:
            assert self.slot.state is (SlotState.WAITING if self.is_wanted else SlotState.STOPPED)
        elif code == 78:
            assert self.slot.state is SlotState.FATAL
        elif self.policy.restart is Restart.NEVER or (self.policy.restart is Restart.ON_FAILURE and code == 0):
            assert self.slot.state is SlotState.EXITED
            assert self.slot.deadline is None
        else:
            is_ours = code in (KILLED, TERMINATED) and self.killed_at is not None
            self.account(is_counted=not is_known and (is_ours or code not in (75, KILLED, TERMINATED)))

    def account(self, *, is_counted: bool) -> None:
        """Check that exactly ``limit`` counted failures within the window are FATAL, and all others cause a restart."""
        limit = self.policy.restart_limit
        if is_counted:
            self.counted.append(self.now)
            self.unready += self.ready_at is None
        recent = [one for one in self.counted if self.now - one < limit.window]
        if is_counted:
            assert len(self.slot.failures) == len(recent)
        is_fatal = is_counted and (len(recent) >= limit.count or self.unready >= limit.count)
        assert self.slot.state is (SlotState.FATAL if is_fatal else SlotState.BACKOFF)
        if not is_fatal:
            assert self.slot.deadline is not None
            assert 0 <= self.slot.deadline - self.now <= self.policy.backoff.max

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 6.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        before, is_over = self.slot, self.slot.deadline is not None and self.now >= self.slot.deadline
        actions = self.feed(Tick())
        if not is_over:
            assert (self.slot, actions) == (before, ())

    @rule()
    def wait_for_the_deadline(self) -> None:
        if self.slot.deadline is None:
            return
        self.now = max(self.now, self.slot.deadline)
        before = self.slot.state
        actions = self.feed(Tick())
        if before is SlotState.BACKOFF:
            assert (self.slot.state, actions) == (SlotState.WAITING, ())
        else:
            assert actions in ((SlotAction.KILL,), (SlotAction.ABORT,))
            assert actions == (SlotAction.KILL,) or before is not SlotState.STOPPING
            assert self.slot.deadline is not None
            assert self.slot.deadline > self.now

    @invariant()
    def a_process_is_there_in_its_states_and_only_there(self) -> None:
        has_process = self.slot.state in (SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING)
        assert has_process == (self.live is not None)
        assert self.slot.pid == self.live
        assert self.slot.wanted == self.is_wanted
        assert self.spawned - self.reaped == ({self.live} if self.live else set())

    @invariant()
    def every_state_that_must_end_has_a_deadline(self) -> None:
        must_end = self.slot.state in (SlotState.STARTING, SlotState.STOPPING, SlotState.BACKOFF)
        is_watched = self.slot.state is SlotState.RUNNING and (self.policy.watchdog > 0 or self.killed_at is not None)
        assert (must_end or is_watched) == (self.slot.deadline is not None)

    @invariant()
    def nothing_runs_or_waits_that_is_not_wanted(self) -> None:
        if not self.is_wanted:
            assert self.slot.state in (SlotState.STOPPED, SlotState.STOPPING, SlotState.EXITED)

    @invariant()
    def what_went_wrong_has_a_reason(self) -> None:
        if self.slot.state in (SlotState.BACKOFF, SlotState.FATAL, SlotState.EXITED):
            assert self.slot.why

    def teardown(self) -> None:
        ways: dict[SlotState, Event] = {
            SlotState.WAITING: Go(),
            SlotState.BACKOFF: Tick(),
            SlotState.STARTING: Exited(1, 0.5),
            SlotState.RUNNING: Exited(1, 0.5),
            SlotState.STOPPING: Exited(1, 0.5),
        }
        event = ways.get(self.slot.state, Start())
        after, _ = step(self.slot, event, max(self.now, self.slot.deadline or 0.0))
        assert after.state is not self.slot.state, "every state has a way out"
        self.stop()
        if self.live is not None:
            self.exit(0, 0.5, is_known=False)
        assert self.slot.state in (SlotState.STOPPED, SlotState.EXITED)


TestSlot = SlotMachine.TestCase
TestSlot.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
