"""The processes of a private node: RabbitMQ, its own name server (epmd), and what a killed run has left of them.

The name server is the node's own, so that the machine's is neither used nor left behind. A leftover is found by its
pid file and recognised by its command line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from runner.broker.folder import Folder
from runner.broker.installation import Installation
from runner.broker.port import Ports
from runner.errors import ConfigError, RunnerError
from runner.proc import command_line, read_stat

log = logging.getLogger(__name__)

#: Seconds for epmd to listen.
_EPMD_START_SECONDS = 10.0
#: A node whose parent died stops by itself within this time, in s.
_OWN_STOP_SECONDS = 3.0
_TERM_SECONDS = 8.0
_KILL_SECONDS = 5.0
# The shell ends epmd when its standard input ends: when our process is gone, however it went.
# Signals to the whole process group, such as Ctrl-C, are for our process alone to act on.
_EPMD_SCRIPT = 'trap "" HUP INT TERM; "$@" & read -r _; kill -KILL "$!"'
# RabbitMQ's answer to SIGTERM takes 6 s: the management plugin's event handler, while it is removed, waits 5 s
# for the process that stops it. So the node removes the handler first. It does so when its standard input ends,
# and thereby also when the process that started it was killed. A SIGTERM to the whole process group is for our
# process alone to act on.
_STOP_AT_END_OF_INPUT = (
    "os:set_signal(sigterm, ignore),"
    "spawn(fun() ->"
    " Input = open_port({fd, 0, 0}, [in, eof]),"
    " receive {Input, eof} ->"
    " catch gen_event:delete_handler(rabbit_event, rabbit_mgmt_db_handler, []),"
    " rabbit:stop(), halt(0)"
    " end end)"
)


def start_node(server: Installation, folder: Folder, ports: Ports, epmd_port: int) -> subprocess.Popen[bytes]:
    """Start RabbitMQ as a direct child in this process's group."""
    command = [
        # Relative, because RabbitMQ's scripts take no spaces in the path that they are called by.
        os.path.relpath(server.script, folder.path),
        # With the name given here RabbitMQ starts no second Erlang only to have an epmd.
        *("-sname", folder.node_name),
        *("-start_epmd", "false"),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
        *("-kernel", "inet_dist_listen_min", str(ports.distribution)),
        *("-kernel", "inet_dist_listen_max", str(ports.distribution)),
        # Ctrl-C reaches every process of a terminal, and is for our process alone to act on.
        *("+B", "i"),
        *("-eval", _STOP_AT_END_OF_INPUT),
    ]
    with folder.console_log.open("wb") as console:
        process = subprocess.Popen(
            command,
            env=folder.node_environment(epmd_port),
            cwd=folder.path,
            stdin=subprocess.PIPE,
            stdout=console,
            stderr=subprocess.STDOUT,
        )
    folder.pid_file.write_text(f"{process.pid}\n", encoding="ascii")
    return process


def stop_node(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Stop the node within ``seconds`` and say whether it stopped by itself, with its data put in order."""
    if process.poll() is not None:
        return True
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    deadline = time.monotonic() + seconds
    # A node that is still starting does not look at its input yet, but knows the signal.
    for share, ask in ((0.6, process.terminate), (1.0, process.kill)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic() - seconds * (1 - share)))
            return True
        ask()
    process.wait()
    return False


def start_epmd(folder: Folder, port: int) -> subprocess.Popen[bytes]:
    """Start epmd in the foreground on loopback, and wait until it listens."""
    program = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if program is None:
        raise ConfigError(["private broker: no 'epmd' on PATH; install Erlang, which RabbitMQ needs"])
    process = subprocess.Popen(
        ["/bin/sh", "-c", _EPMD_SCRIPT, "epmd", program, "-address", "127.0.0.1", "-port", str(port)],
        env=folder.epmd_environment(),
        cwd=folder.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _EPMD_START_SECONDS
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


def find_leftover(folder: Folder) -> int | None:
    """Return the pid of a node that lives on in this folder though the process that ran it is gone."""
    pid = node_pid(folder)
    if pid is None or _is_run(pid):
        return None
    return pid


def end_leftover(folder: Folder) -> None:
    """Wait for a node of this folder to be gone, and end it when it does not go; two would share the data."""
    pid = node_pid(folder)
    if pid is None:
        return
    log.warning("a RabbitMQ node of an earlier run still holds %s, waiting for pid %d", folder.path, pid)
    if _gone(folder, _OWN_STOP_SECONDS):
        return
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if _gone(folder, seconds):
            return


def node_pid(folder: Folder) -> int | None:
    """Return the pid of the node that runs in this folder, or None."""
    try:
        pid = int(folder.pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # Pids are used again, so another process may have this one by now.
    return pid if folder.node_name.encode() in command_line(pid) else None


def _is_run(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and b"runner.broker.node" in command_line(stat.parent)


def _gone(folder: Folder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while node_pid(folder) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
