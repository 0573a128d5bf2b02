"""Request rates of hosts in one process. Pure except for the clock, which is passed in.

The algorithm is GCRA: a host has a theoretical arrival time (`due`), each request moves it by one
interval, and a request may start `tolerance` before it: (burst - 1) intervals. A slowed host has a
longer interval and the same tolerance, so its bursts are smaller too.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from app.core.messages import HostLimits
from app.fetch.retry import MAX_WAIT

MAX_SLOWDOWN = 64.0
RESPONSES_PER_EASING = 20
EASING_FACTOR = 0.95
PENALTY_INTERVAL = (
    1.0  # seconds in which several refusals count as one: the requests were concurrent
)
_MAX_HOSTS = 1_000


@dataclass(slots=True)
class _HostRate:
    due: float = 0.0
    closed: float = 0.0
    slow: float = 1.0
    slowed_at: float = -PENALTY_INTERVAL
    clean: int = 0

    def idle(self, now: float) -> bool:
        return self.due <= now and self.closed <= now and self.slow <= 1.0


class Rates:
    """The request rates of one process. `share` returns how many processes share the limits.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, share: Callable[[], int] = lambda: 1
    ) -> None:
        self._clock = clock
        self._share = share
        self._hosts: defaultdict[str, _HostRate] = defaultdict(_HostRate)

    def reserve(self, host: str, limits: HostLimits, *, patience: float = MAX_WAIT) -> float:
        """Reserve the next request to `host`; return the seconds to wait before it.

        If the wait is longer than `patience`, nothing is reserved and the request must not be sent.
        """
        now = self._clock()
        self._prune(now)
        rate = self._hosts[host]
        tolerance = (limits.burst - 1) / limits.rate
        due = max(rate.due, now)
        if rate.closed > max(due - tolerance, now):
            due = rate.closed + tolerance  # no burst right after a cool-down
        wait = max(due - tolerance - now, 0.0)
        if wait <= patience:
            rate.due = due + rate.slow * max(self._share(), 1) / limits.rate
        return wait

    def penalise(self, host: str, seconds: float) -> None:
        """Double the interval of `host` and close it for `seconds`, after a 429 or 503."""
        now = self._clock()
        rate = self._hosts[host]
        if now - rate.slowed_at >= PENALTY_INTERVAL:
            rate.slow = min(rate.slow * 2, MAX_SLOWDOWN)
            rate.slowed_at = now
        rate.closed = max(rate.closed, now + seconds)
        rate.clean = 0

    def record_clean(self, host: str) -> None:
        """Record a good response: twenty of them shorten a slowed interval by 5 %."""
        rate = self._hosts.get(host)
        if rate is None or rate.slow <= 1.0:
            return
        rate.clean += 1
        if rate.clean >= RESPONSES_PER_EASING:
            rate.clean = 0
            rate.slow = max(rate.slow * EASING_FACTOR, 1.0)

    def closed_for(self, host: str) -> float:
        """Seconds for which `host` accepts no request."""
        rate = self._hosts.get(host)
        return max(rate.closed - self._clock(), 0.0) if rate else 0.0

    def _prune(self, now: float) -> None:
        if len(self._hosts) > _MAX_HOSTS:
            for host in [host for host, rate in self._hosts.items() if rate.idle(now)]:
                del self._hosts[host]
