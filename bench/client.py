"""The C client: the upper limit of a client's publish rate, and the fastest way to fill a queue."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pika

from bench.ground import Ground, say
from tests.rabbit import Vhost

SOURCE = Path(__file__).parent / "c" / "publish.c"
#: The limit of unconfirmed events for every publisher that is measured, the same as the product's.
WINDOW = 1000


def compiled(ground: Ground) -> Path | None:
    """Compile the C client once. If there is no compiler or no librabbitmq-dev, print that and return None."""
    program = ground.folder / "publish"
    if program.exists():
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        say("    C client: not measured, no C compiler is installed; apt-get install gcc libc6-dev")
        return None
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(SOURCE), "-lrabbitmq"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        say(f"    C client: not measured; apt-get install librabbitmq-dev\n{done.stderr[:300]}")
        return None
    return program


def publish(program: Path, vhost: Vhost, exchange: str, key: str, count: int) -> float:
    """Publish ``count`` events with the C client. Return the seconds from the first publish to the last confirm."""
    parameters = pika.URLParameters(vhost.url)
    done = subprocess.run(
        [str(program), parameters.host, str(parameters.port), vhost.name, exchange, key, str(count), str(WINDOW)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the C client exited with {done.returncode}: {done.stderr}")
    return float(done.stdout)


def fill(ground: Ground, vhost: Vhost, exchange: str, key: str, count: int) -> None:
    """Publish ``count`` events as fast as possible, with pika if there is no C client."""
    program = compiled(ground)
    if program is not None:
        publish(program, vhost, exchange, key, count)
    else:
        ground.peer("publish_pika", "pipelined", vhost.url, exchange, key, count, WINDOW)
