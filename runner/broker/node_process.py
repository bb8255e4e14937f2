"""The processes of a private node: RabbitMQ, its name server epmd, and leftover processes from a killed run.

The node has its own epmd, so that it neither uses the machine's epmd nor leaves an epmd running. A leftover node is
found by its pid file and recognized by its command line.
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

#: The time limit in seconds for epmd to start listening.
_EPMD_START_SECONDS = 10.0
#: The time limit in seconds for a node to stop by itself after its parent process has exited.
_OWN_STOP_SECONDS = 3.0
_TERM_SECONDS = 8.0
_KILL_SECONDS = 5.0
# The shell kills epmd when the shell's standard input is closed, which happens whenever its parent process exits. The
# shell ignores signals to the whole process group, such as those from Ctrl-C, because only the parent handles signals.
_EPMD_SCRIPT = 'trap "" HUP INT TERM; "$@" & read -r _; kill -KILL "$!"'
# After SIGTERM, RabbitMQ takes 6 s to stop, because the management plugin's event handler waits 5 s for the process
# that stops the node. Therefore, the node stops when its standard input is closed, and removes the handler first.
# Standard input is also closed if the parent is killed. The node ignores SIGTERM to the whole process group, because
# only the parent handles signals.
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
    """Start RabbitMQ as a child process in the process group of the caller."""
    command = [
        # The path is relative, because RabbitMQ's scripts do not support spaces in their own path.
        os.path.relpath(server.script, folder.path),
        # If the command line contains the node's name, RabbitMQ does not start a second Erlang VM only for epmd.
        *("-sname", folder.node_name),
        *("-start_epmd", "false"),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
        *("-kernel", "inet_dist_listen_min", str(ports.distribution)),
        *("-kernel", "inet_dist_listen_max", str(ports.distribution)),
        # Ctrl-C sends a signal to every foreground process of a terminal, but only the parent handles the signal.
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
    """Stop the node within ``seconds`` seconds. Return True if the node stopped cleanly, or False if it was killed."""
    if process.poll() is not None:
        return True
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    deadline = time.monotonic() + seconds
    # A node that is still starting does not read its standard input yet, but handles SIGTERM.
    for share, ask in ((0.6, process.terminate), (1.0, process.kill)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic() - seconds * (1 - share)))
            return True
        ask()
    process.wait()
    return False


def start_epmd(folder: Folder, port: int) -> subprocess.Popen[bytes]:
    """Start epmd in the foreground on loopback, and wait until it is listening."""
    program = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if program is None:
        raise ConfigError(["private broker: 'epmd' is not on PATH; install Erlang, which RabbitMQ requires"])
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
    raise RunnerError(f"private broker: epmd did not start listening on 127.0.0.1:{port}")


def stop_epmd(process: subprocess.Popen[bytes]) -> None:
    """Stop epmd, and reap its shell."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_leftover(folder: Folder) -> int | None:
    """Return the pid of a node that still runs in this folder after its parent has exited, or None if there is none."""
    pid = node_pid(folder)
    if pid is None or _is_run(pid):
        return None
    return pid


def end_leftover(folder: Folder) -> None:
    """Wait for a leftover node in this folder to exit, or kill the node. Two nodes must not share the same data."""
    pid = node_pid(folder)
    if pid is None:
        return
    log.warning("a RabbitMQ node from an earlier run still uses %s; waiting for pid %d to exit", folder.path, pid)
    if _gone(folder, _OWN_STOP_SECONDS):
        return
    for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if _gone(folder, seconds):
            return


def node_pid(folder: Folder) -> int | None:
    """Return the pid of the node that is running in this folder, or None if no node is running."""
    try:
        pid = int(folder.pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # Pids are reused, so another process may now have this pid.
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
