"""How often somebody may ask: a bucket of requests for each address, and for each client that has not signed in.

Counted in each process for itself, in bounded memory: with several processes an address may ask as often as they are
many. Whoever comes from more clients than :data:`_MOST` buckets makes the oldest ones forgotten, which are full again
by then or start anew: limits by client are a brake, not a wall.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from rexis.protocol.errors import RateError

_MOST = 20_000
_IPV6_PREFIX = 64  # what one subscriber has


class Buckets:
    """A bucket for each key, which holds `burst` requests and is filled at `rate` a second.

    Parameters
    ----------
    rate
        0 for no limit.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: str) -> float:
        """Take one request out; returns 0, or the seconds after which there will be one."""
        if not self._rate:
            return 0.0
        level = self._level(key)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._keep(key, level if wait else level - 1)
        return wait

    def give_back(self, key: str) -> None:
        """Put one request back that was taken for something else."""
        if self._rate:
            self._keep(key, min(self._burst, self._level(key) + 1))

    def _level(self, key: str) -> float:
        level, at = self._levels.get(key, (self._burst, 0.0))
        return min(self._burst, level + (self._clock() - at) * self._rate) if key in self._levels else level

    def _keep(self, key: str, level: float) -> None:
        self._levels[key] = level, self._clock()
        self._levels.move_to_end(key)
        if len(self._levels) > _MOST:
            self._levels.popitem(last=False)


def too_many(message: str, wait: float) -> RateError:
    """The refusal of a request that may be sent again after `wait` seconds."""
    error = RateError(message, hint="ask less often; the answer says after how many seconds")
    error.retry_after = math.ceil(wait)
    return error


def client_key(client: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network."""
    try:
        found = ip_address(client)
    except ValueError:
        return client
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(IPv6Address(int(found) >> _IPV6_PREFIX << _IPV6_PREFIX))
    return str(getattr(found, "ipv4_mapped", None) or found)
