"""The private node's own name server (epmd), so that the machine's is neither used nor left behind."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from runner.broker.folder import Folder
from runner.errors import ConfigError, RunnerError

_START_SECONDS = 10.0
# The shell ends epmd when its standard input ends: when our process is gone, however it went.
# Signals to the whole process group, such as Ctrl-C, are for our process alone to act on.
_SCRIPT = 'trap "" HUP INT TERM; "$@" & read -r _; kill -KILL "$!"'


def start_epmd(folder: Folder, port: int) -> subprocess.Popen[bytes]:
    """Start epmd in the foreground on loopback, and wait until it listens."""
    program = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if program is None:
        raise ConfigError(["private broker: no 'epmd' on PATH; install Erlang, which RabbitMQ needs"])
    process = subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "epmd", program, "-address", "127.0.0.1", "-port", str(port)],
        env=folder.epmd_environment(),
        cwd=folder.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return process
    stop_epmd(process)
    raise RunnerError(f"private broker: epmd does not listen on 127.0.0.1:{port}")


def stop_epmd(process: subprocess.Popen[bytes]) -> None:
    """End epmd, and reap the shell around it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
