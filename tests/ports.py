"""Ports of loopback for servers that tests start.

Systems lend none of them to outgoing connections, so that a port is still free when its server starts, and starts
again; each process of a test run draws from its own, and from none that a local platform draws from.
"""

from __future__ import annotations

import os
import random
from itertools import cycle, islice

from deployments.platform_home import is_free

_FIRST, _EACH, _PROCESSES = 12_000, 2_000, 4
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
_OWN = range(_FIRST + _PROCESS * _EACH, _FIRST + (_PROCESS + 1) * _EACH)
_DRAWN = cycle(random.SystemRandom().sample(_OWN, len(_OWN)))


def free_ports(count: int) -> list[int]:
    """So many on which nobody listens now; none is drawn again soon."""
    found = list(islice(filter(is_free, islice(_DRAWN, len(_OWN))), count))
    assert len(found) == count, f"{_OWN} are in use"
    return found


def free_port() -> int:
    """One such."""
    (port,) = free_ports(1)
    return port
