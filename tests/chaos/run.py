"""One run: orders and faults at the same time, then the verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pika.exceptions import AMQPError
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.chart import Sample
from tests.chaos.checker import Broker
from tests.chaos.client import Clients, read_answers
from tests.chaos.injection import Injector, Missed
from tests.chaos.plan import Planned
from tests.chaos.report import Injected, Outcome
from tests.chaos.rig import Rig
from tests.rabbit import wait_until

#: Seconds after the end of orders and faults until everything must be correct.
SETTLE = 600.0
DONE = """
SELECT emails.order_id, max(inbox.done_at) AS at FROM emails JOIN inbox ON inbox.message_id = emails.event_id
WHERE inbox.service = 'notification' AND emails.type <> 'order.created' GROUP BY emails.order_id
"""
#: A faster count for use during the run.
COUNT = "SELECT count(*) AS n FROM emails WHERE type <> 'order.created'"


class Run:
    """A rig with its clients and planned faults."""

    def __init__(self, rig: Rig, outcome: Outcome, faults: Sequence[Planned]) -> None:
        self._rig, self._outcome, self._planned = rig, outcome, faults
        self._poison = rig.folder / "poison.jsonl"
        self._injector = Injector(rig, self._poison)
        self._threads: list[threading.Thread] = []
        self._is_done = threading.Event()
        self.samples: list[Sample] = []
        self.began = 0.0

    def go(self, say: Callable[[str], None]) -> None:
        """Run the orders and faults, then check the results. ``say`` receives the progress."""
        rig, outcome = self._rig, self._outcome
        rig.start()
        clients = Clients(rig.folder, rig.shop.doors, outcome.rate, seed=outcome.seed)
        self.began = time.time()
        sampler = threading.Thread(target=self._sample_all, args=(clients, say))
        sampler.start()
        try:
            self._drive()
            outcome.orders = clients.stop()
            self._injector.stop()
            for thread in self._threads:
                thread.join(60)
            ended = time.monotonic()
            wait_until(rig.is_running, 90, "everything is RUNNING again")
            self._judge(clients.logs)
        finally:
            self._is_done.set()
            sampler.join(60)
            clients.kill()
        outcome.settled = None if outcome.verdict["violations"] else time.monotonic() - ended
        outcome.answers = read_answers(clients.logs)
        outcome.done = {row.order_id: row.at / 1000 for row in rig.database.rows(DONE)}
        self._ask_ledger()
        code, left = rig.stop()
        if code:
            outcome.problems.append(f"the runner exited with code {code}")
        outcome.problems += [f"a process is left: {one}" for one in left]
        # Check again, because unacked messages are in no queue and may have been handled since.
        self._check(clients.logs)
        never = {one.planned.kind for one in outcome.faults} - {
            one.planned.kind for one in outcome.faults if not one.missed
        }
        outcome.problems += [f"{kind}: was never injected" for kind in sorted(never)]

    def _drive(self) -> None:
        began = time.monotonic()
        for planned in self._planned:
            time.sleep(max(0.0, began + planned.at - time.monotonic()))
            self._inject(planned)
        time.sleep(max(0.0, began + self._outcome.seconds - time.monotonic()))

    def _sample_all(self, clients: Clients, say: Callable[[str], None]) -> None:
        due = time.monotonic()
        while not self._is_done.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1.0, time.monotonic())
            self._sample(clients)
            last, count = self.samples[-1], len(self._outcome.faults)
            say(
                f"{last.at:4.0f} s  {last.accepted:,} orders accepted, {last.done:,} done,"
                f" {last.waiting:,} messages waiting, {count} faults"
            )
        self._sample(clients)

    def _inject(self, planned: Planned) -> None:
        one = Injected(planned, time.time())
        self._outcome.faults.append(one)

        def work() -> None:
            began = time.monotonic()
            try:
                self._injector.inject(planned)
            except Missed as error:
                one.missed = str(error)
            except Exception as error:  # the run continues, and its report contains the error
                one.missed = f"{type(error).__name__}: {error}"
                self._outcome.problems.append(f"{planned.kind}: could not be injected, {one.missed}")
            one.took = time.monotonic() - began

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _sample(self, clients: Clients) -> None:
        last = self.samples[-1] if self.samples else Sample(0.0, 0, 0, 0)
        accepted = last.accepted + sum(1 for one in clients.new_answers() if one.status == 202)
        done, waiting = last.done, last.waiting
        try:
            done = int(self._rig.database.rows(COUNT)[0].n)
            waiting = sum(self._depths().values())
        except (OSError, SQLAlchemyError, AMQPError):
            pass  # the broker is down or the database is locked; keep the last values
        self.samples.append(Sample(time.time() - self.began, accepted, done, waiting))

    def _depths(self) -> dict[str, int]:
        depths = Broker(self._rig.management, self._rig.amqp, "/").depths()
        return {queue: depth for queue, depth in depths.items() if not queue.endswith(".dlq")}

    def _judge(self, logs: Sequence[Path]) -> None:
        """Run the checker until nothing is wrong, or for at most ``SETTLE`` seconds."""
        deadline = time.monotonic() + SETTLE
        while time.monotonic() < deadline:
            self._check(logs)
            if not self._outcome.verdict["violations"]:
                return
            # Each check is a process that uses processor time of the shop.
            time.sleep(1.0)

    def _check(self, logs: Sequence[Path]) -> None:
        command = [
            sys.executable, "-m", "tests.chaos.checker", *map(str, logs), "--poison", str(self._poison),
            "--store", self._rig.store.url, "--management", self._rig.management, "--amqp", self._rig.amqp,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        found: dict[str, Any] = {"violations": [f"the checker failed: {done.stderr[-500:]}"]}
        if done.stdout.startswith("{"):
            found = json.loads(done.stdout)
        self._outcome.verdict = found

    def _ask_ledger(self) -> None:
        code, said = self._rig.tell("ledger", timeout=120)
        self._outcome.ledger = said
        if code:
            self._outcome.problems.append(f"the ledger command exited with code {code}: {said.strip()[-500:]}")
