"""The containers of one profile, started in the order of compose.yaml."""

from __future__ import annotations

from typing import Any

from tests.compose.box import Box, Host
from tests.compose.file import compose, profile
from tests.compose.image import Image
from tests.rabbit import wait_until

#: Seconds for a container to become healthy or to exit, on a busy machine too.
HEALTHY_TIMEOUT = 120.0


def say(words: str) -> None:
    """Print a line of progress."""
    print(f"compose: {words}", flush=True)


class System:
    """The containers of one profile."""

    def __init__(self, host: Host, images: dict[str, Image], name: str, scale: dict[str, int]) -> None:
        self._host, self._images, self._scale = host, images, scale
        self.services = profile(compose()["services"], name)
        self.boxes: dict[str, list[Box]] = {}
        self._started = 0

    def up(self) -> None:
        """Start each service after those that it depends on. Raises AssertionError."""
        for name in self.services:
            self._start(name)

    def _start(self, name: str) -> None:
        if name in self.boxes:
            return
        service = self.services[name]
        for needed, how in service.get("depends_on", {}).items():
            self._start(needed)
            self._wait(needed, how["condition"])
        self.boxes[name] = [self._box(name, number) for number in range(1, self._scale.get(name, 1) + 1)]

    def _box(self, name: str, number: int, **changes: Any) -> Box:
        service = self.services[name] | changes
        return Box(self._host, name, service, self._images[service["image"]], number)

    def _wait(self, name: str, condition: str) -> None:
        for box in self.boxes[name]:
            if condition == "service_completed_successfully":
                code = box.wait(HEALTHY_TIMEOUT)
                assert code == 0, f"{box.name} exited with code {code}\n{box.output}"
            else:
                self.wait_healthy(box)

    def wait_healthy(self, box: Box) -> None:
        """Wait until the health check of a container succeeds. Raises AssertionError with its output."""
        try:
            wait_until(box.is_healthy, HEALTHY_TIMEOUT, f"{box.name} is healthy")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{box.output[-3000:]}") from None

    def restart(self, name: str, **changes: Any) -> list[Box]:
        """Stop the containers of a service, start the same number of new ones, and return those."""
        for box in self.boxes[name]:
            if box.exit_code is None:
                assert box.stop() == 0, f"{box.name} exited with code {box.exit_code}"
        self._started += 1
        numbers = range(100 * self._started + 1, 100 * self._started + 1 + len(self.boxes[name]))
        self.boxes[name] = [self._box(name, number, **changes) for number in numbers]
        return self.boxes[name]

    def output(self, name: str) -> str:
        """Return the output of a service's containers."""
        return "".join(box.output for box in self.boxes[name])

    def down(self) -> dict[str, int]:
        """Stop each container before the containers that it depends on. Return the exit codes."""
        lasting = [box for name in reversed(self.boxes) for box in self.boxes[name] if box.exit_code is None]
        return {box.name: box.stop() for box in lasting}

    def close(self) -> None:
        """Kill all running containers."""
        for boxes in self.boxes.values():
            for box in boxes:
                box.close()
