"""The command ``python -m tests.chaos.client``: posts orders at a steady rate, and logs each answer immediately.

It is a separate process that knows only the ports of the shop. Each order has an ``Idempotency-Key``. If the answer is
not 202, or missing, the client sends the order again with the same key, as a careful client does.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

#: The timeout of a request, the pause before the next request for an order, and the time limit for an order; in
#: seconds.
TIMEOUT, PAUSE, PATIENCE = 15.0, 0.5, 90.0


@dataclass(frozen=True)
class Answer:
    """The result of one request."""

    key: str
    email: str
    #: In hundredths of a dollar.
    hundredths: int
    #: 202, another status, or 0 if there was no answer.
    status: int
    order_id: str
    #: The time of the answer in seconds since the epoch, and the duration of the request in seconds.
    at: float
    took: float
    #: The port that was used.
    port: int = 0


class Client:
    """A client whose threads post the due orders."""

    def __init__(self, name: str, log: Path, seed: int) -> None:
        self._name = name
        self._log = log.open("ab")
        self._lock = threading.Lock()
        self._draw = random.Random(f"{seed} {name}")
        self._due: SimpleQueue[tuple[str, int, int] | None] = SimpleQueue()

    def run(self, port: int, rate: float, threads: int) -> None:
        """Post ``rate`` orders per second to a port until standard input ends, then finish the due orders."""
        stop = threading.Event()

        def wait_end() -> None:
            sys.stdin.buffer.read()
            stop.set()

        threading.Thread(target=wait_end, daemon=True).start()
        workers = [threading.Thread(target=self._post_all) for _ in range(threads)]
        for worker in workers:
            worker.start()
        began, number = time.monotonic(), 0
        while not stop.wait(max(0.0, began + number / rate - time.monotonic())):
            self._due.put((f"{self._name}-{number}", self._draw.randrange(100, 1_000_000), port))
            number += 1
        for _ in workers:
            self._due.put(None)
        for worker in workers:
            worker.join()
        print(number)

    def _post_all(self) -> None:
        while (order := self._due.get()) is not None:
            self.order(*order)

    def order(self, key: str, hundredths: int, port: int) -> bool:
        """Send an order until it is accepted. Return False after the time limit. Any thread may call this."""
        deadline = time.monotonic() + PATIENCE
        while not (is_accepted := self._post(key, hundredths, port)) and time.monotonic() < deadline:
            time.sleep(PAUSE)
        return is_accepted

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _post(self, key: str, hundredths: int, port: int) -> bool:
        email = f"{key}@example.com"
        body = json.dumps({"customer_email": email, "amount": f"{hundredths / 100:.2f}", "currency": "USD"})
        began = time.monotonic()
        status, order_id = 0, ""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            headers = {"Content-Type": "application/json", "Idempotency-Key": key}
            try:
                connection.request("POST", "/orders", body, headers)
                with connection.getresponse() as response:
                    answer = json.loads(response.read())
                status, order_id = response.status, str(answer["order_id"]) if response.status == 202 else ""
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            status = 0
        took = time.monotonic() - began
        self._write(Answer(key, email, hundredths, status, order_id, time.time(), took, port))
        return status == 202

    def _write(self, answer: Answer) -> None:
        line = json.dumps(asdict(answer)).encode() + b"\n"
        with self._lock:
            self._log.write(line)
            self._log.flush()
        if answer.status == 202:
            # An order counts as answered only when this line is on the disk.
            os.fsync(self._log.fileno())


class Clients:
    """One client process for each port, with its own log, so that trouble at one port delays no other client."""

    def __init__(self, folder: Path, ports: list[int], rate: float, *, threads: int = 32, seed: int = 1) -> None:
        """Start the clients. ``rate`` is their total in orders per second."""
        self.logs = [folder / f"client-{number}.jsonl" for number in range(len(ports))]
        self._offsets = [0] * len(ports)
        self._processes = []
        for number, (port, log) in enumerate(zip(ports, self.logs, strict=True)):
            spec = {
                "name": f"c{number}", "port": port, "log": str(log), "seed": seed, "rate": rate / len(ports),
                "threads": threads,
            }  # fmt: skip
            command = [sys.executable, "-m", "tests.chaos.client", json.dumps(spec)]
            self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def new_answers(self) -> list[Answer]:
        """Return the new answers since the last call."""
        found = []
        for number, log in enumerate(self.logs):
            if not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(self._offsets[number])
                raw = file.read()
            whole = raw[: raw.rfind(b"\n") + 1]
            self._offsets[number] += len(whole)
            found += [Answer(**json.loads(line)) for line in whole.splitlines()]
        return found

    def stop(self, timeout: float = 2 * PATIENCE) -> int:
        """Stop after the due orders are finished. Return the total number of orders."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        total = 0
        for process in self._processes:
            assert process.stdout is not None
            assert process.wait(timeout) == 0, "a client failed"
            with process.stdout:
                total += int(process.stdout.read())
        return total

    def kill(self) -> None:
        """Kill the remaining clients."""
        for process in self._processes:
            process.kill()
            process.wait(5)
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()


def read_answers(logs: list[Path]) -> list[Answer]:
    """Return all answers in these logs."""
    return [Answer(**json.loads(line)) for log in logs if log.exists() for line in log.read_bytes().splitlines()]


def main(spec: dict[str, Any]) -> None:
    """Run one client."""
    client = Client(spec["name"], Path(spec["log"]), spec["seed"])
    client.run(spec["port"], spec["rate"], spec["threads"])
    client.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
