"""Ports for the servers of tests: below those that the system gives to connections, a part for each process."""

from __future__ import annotations

import itertools
import os
import random

from runner.broker.port import is_free

#: A node also takes the ports 10000 and 20000 above its own, which no other node of the tests gets. The last one may be
#: in use: the system takes the local ports of connections from 32768 on (ip(7), ip_local_port_range). A node then takes
#: another one.
_FIRST, _PART = 10_000, 2_000

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 5
_offsets = itertools.count(random.randrange(_PART))


def free_port() -> int:
    """One that nothing uses and that this process has not given before."""
    for offset in _offsets:
        port = _FIRST + _worker * _PART + offset % _PART
        if is_free(port):
            return port
    raise AssertionError("the numbers do not end")
