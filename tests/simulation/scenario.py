"""What one seed stands for: how the service is set up, which messages come, and what goes wrong when."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from random import Random

#: Seconds of virtual time in which messages come and things go wrong.
FAULTS_END = 20.0
#: Seconds after which all must be quiet: a whole ladder, more than once where deliveries were in vain.
QUIET_BY = FAULTS_END + 600.0
#: How a worker can die of a message: its exit code, why the supervisor killed it, and by whom it came.
ENDS = ("segfault", "exit 0", "exit 1", "hang", "out of memory", "over memory_max", "killed from outside")
#: How often each kind of message comes, in a hundred.
KINDS = {
    "good": 52, "flaky": 13, "failing": 6, "rejected": 5, "astray": 5, "refused": 4, "poison": 7, "weak poison": 5,
    "unfit": 1, "unwritable": 2,
}  # fmt: skip
#: What goes wrong from outside.
FAULTS = (
    "lose consumer", "lose consumer", "lose publisher", "lose publisher", "kill", "kill", "crash", "stop",
    "restart broker", "block publishers", "full queues", "unbind", "database away", "slow confirms", "silent confirms",
    "delete a wait queue", "delete the dead-letter queue",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One message, and what its handler makes of it."""

    name: str
    kind: str
    #: When it is published; more than one time: the client sends it again.
    times: tuple[float, ...]
    has_id: bool
    events: int
    has_effect: bool
    #: Seconds that the handler takes.
    duration: float
    #: Of what is flaky: how many attempts fail; of a weak poison, how many workers die.
    failures: int
    #: Of a poison: how its workers die.
    end: str

    @property
    def decides(self) -> bool:
        """Whether its events are decided in its transaction: for every third name, whatever else is drawn."""
        return zlib.crc32(self.name.encode()) % 3 == 0


@dataclass(frozen=True)
class Scenario:
    """One run."""

    workers: int
    concurrency: int
    prefetch: int
    inbox: bool
    #: Whether tries are noted, and whether the queue for that is there.
    trace: bool
    has_notes: bool
    steps: tuple[float, ...]
    max_crashes: int
    window: int
    #: Seconds.
    confirm_timeout: float
    messages: tuple[Plan, ...]
    #: Pairs of time and fault.
    faults: tuple[tuple[float, str], ...]
    #: How likely something goes wrong at each step of a message, and how often at most.
    sabotage: float
    most_sabotages: int


def draw(random: Random) -> Scenario:
    """A scenario of this seed."""
    is_calm = random.random() < 0.1
    steps = random.choice([(), (1.0,), (1.0, 5.0), (1.0, 5.0), (0.5, 2.0, 30.0), (2.0, 1.0, 1.0)])
    max_crashes = random.choice([1, 2, 3, 3])
    count = random.choice([1, 2, 3, 4, 5, 6, 8, 12])
    faults = 0 if is_calm else random.choice([0, 1, 1, 2, 3, 4, 6])
    return Scenario(
        workers=random.choice([1, 1, 2]),
        concurrency=random.choice([1, 1, 2, 3]),
        prefetch=random.choice([1, 2, 4, 10, 50]),
        inbox=random.random() < 0.6,
        trace=random.random() < 0.25,
        has_notes=random.random() < 0.8,
        steps=steps,
        max_crashes=max_crashes,
        window=random.choice([1000, 1000, 1, 2, 3]),
        confirm_timeout=random.choice([60.0, 60.0, 5.0, 1.0]),
        messages=tuple(_plan(random, f"m{number}", len(steps), max_crashes) for number in range(count)),
        faults=tuple(sorted((random.uniform(0.0, FAULTS_END - 5), random.choice(FAULTS)) for _ in range(faults))),
        sabotage=0.0 if is_calm else random.choice([0.0, 0.02, 0.05, 0.15]),
        most_sabotages=random.choice([1, 2, 4, 8]),
    )


def _plan(random: Random, name: str, steps: int, max_crashes: int) -> Plan:
    kind = random.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "weak poison" and max_crashes == 1:
        kind = "good"
    first = random.uniform(0.0, 8.0) if random.random() < 0.5 else 0.1
    times: tuple[float, ...] = (first,)
    if random.random() < 0.15:
        times += (first + random.choice([0.0, 0.01, 0.1, 3.0]),)
    events = random.choice([0, 1, 1, 2, 3])
    return Plan(
        name=name,
        kind=kind,
        times=times,
        has_id=kind == "unfit" or random.random() > 0.06,
        events=max(1, events) if kind in ("astray", "unwritable") else events,
        has_effect=kind == "refused" or random.random() < 0.75,
        duration=random.choice([0.0, 0.0, 0.01, 0.05, 0.5, 3.0]),
        failures=random.randint(1, max_crashes - 1) if kind == "weak poison" else random.randint(1, steps + 1),
        end=random.choice(ENDS if kind == "poison" else ENDS[:-1]),
    )
