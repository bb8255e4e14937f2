"""Ports for the servers of tests, below the system's range for connections. Each process has its own part."""

from __future__ import annotations

import itertools
import os
import random

from runner.broker.port import is_free

#: A node also uses the ports 10000 and 20000 above its own, and no other node of the tests gets those. The port 20000
#: above may be in use, because the system gives ports from 32768 on to connections (ip(7), ip_local_port_range). Then
#: the node uses another port.
_FIRST, _PART = 10_000, 2_000

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
_offsets = itertools.count(random.randrange(_PART))


def free_port() -> int:
    """Return an unused port that this process has not returned before."""
    for offset in _offsets:
        port = _FIRST + _worker * _PART + offset % _PART
        if is_free(port):
            return port
    raise AssertionError("the numbers are endless")
