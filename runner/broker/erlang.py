"""The private node's Erlang process: its command line, and how it is told to stop."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

from runner.broker.folder import Folder
from runner.broker.installation import Installation
from runner.broker.port import Ports

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
