"""The C client: the most that a client can publish, and the fastest way to fill a queue."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pika

from bench.ground import Ground, say
from tests.rabbit import Vhost

SOURCE = Path(__file__).parent / "c" / "publish.c"
#: Events on their way without a confirm, of every client that is measured: as many as ours allows.
WINDOW = 1000


def compiled(ground: Ground) -> Path | None:
    """The C client, compiled once; None where there is no compiler or no librabbitmq-dev, which is said."""
    program = ground.folder / "publish"
    if program.exists():
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        say("    C client: not measured, there is no C compiler; apt-get install gcc libc6-dev")
        return None
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(SOURCE), "-lrabbitmq"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        say(f"    C client: not measured; apt-get install librabbitmq-dev\n{done.stderr[:300]}")
        return None
    return program


def publish(program: Path, vhost: Vhost, exchange: str, key: str, count: int) -> float:
    """Publish ``count`` events with the C client; returns seconds from the first publish to the last confirm."""
    parameters = pika.URLParameters(vhost.url)
    done = subprocess.run(
        [str(program), parameters.host, str(parameters.port), vhost.name, exchange, key, str(count), str(WINDOW)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the C client ended with {done.returncode}: {done.stderr}")
    return float(done.stdout)


def fill(ground: Ground, vhost: Vhost, exchange: str, key: str, count: int) -> None:
    """Publish ``count`` events as fast as can be: with the C client, or with pika where that is not there."""
    program = compiled(ground)
    if program is not None:
        publish(program, vhost, exchange, key, count)
    else:
        ground.peer("publish_pika", "pipelined", vhost.url, exchange, key, count, WINDOW)
