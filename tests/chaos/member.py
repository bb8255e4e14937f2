"""One node of a cluster, in the foreground: ``python -m tests.chaos.member --folder ... --epmd-port ...``.

It is the product's private node, except that the nodes of a cluster share one epmd.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.address import Login
from runner.broker.folder import Folder
from runner.broker.installation import installed_server, link_needed
from runner.broker.node_process import end_leftover, start_node, stop_node
from runner.broker.port import Ports

HOST = "127.0.0.1"
_STOP_SECONDS = 8.0


def main() -> int:
    """Run until the node exits (return 1), or until a signal or the end of standard input (return 0)."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.member", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    for name in ("--epmd-port", "--port", "--management-port", "--distribution-port"):
        parser.add_argument(name, type=int, required=True)
    options = parser.parse_args()
    server = installed_server()
    if server is None:
        sys.exit("cluster: rabbitmq-server is not installed; apt-get install rabbitmq-server")
    words: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: words.put("stop"))
    folder = Folder(options.folder)
    folder.make()
    end_leftover(folder)
    ports = Ports(options.port, options.management_port, options.distribution_port)
    folder.configure(ports, HOST, Login("guest", "guest", "/"))
    slim = link_needed(server, folder.server_home, folder.plugins())
    node = start_node(slim, folder, ports, options.epmd_port)
    folder.write_env(server, options.epmd_port)
    _say_after(node.wait, words, "ended")
    _say_after(sys.stdin.buffer.read, words, "stop")
    word = words.get()
    stop_node(node, _STOP_SECONDS)
    folder.pid_file.unlink(missing_ok=True)
    return 0 if word == "stop" else 1


def _say_after(wait: Callable[[], Any], words: queue.SimpleQueue[str], word: str) -> None:
    def run() -> None:
        wait()
        words.put(word)

    threading.Thread(target=run, name=word, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
