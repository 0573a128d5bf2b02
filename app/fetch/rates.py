"""How fast a host may be asked, as one process reckons it. Pure but for the clock handed in.

The arithmetic is GCRA: a host has a theoretical arrival time (`due`), each request moves it by one
interval, and a request may start `tolerance` before it: (burst - 1) intervals. A host that is
slowed has a longer interval and the same tolerance, so it also bursts less.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from app.fetch.retry import PATIENCE
from app.messages import Limits

SLOWEST = 64.0
CLEAN_ANSWERS = 20
EASING = 0.95
HOLD = 1.0  # seconds in which several refusals count as one: they were under way together
_HOSTS = 1_000


@dataclass(slots=True)
class _Lane:
    due: float = 0.0
    closed: float = 0.0
    slow: float = 1.0
    slowed_at: float = -HOLD
    clean: int = 0

    def idle(self, now: float) -> bool:
        return self.due <= now and self.closed <= now and self.slow <= 1.0


class Rates:
    """The budgets of one process. `share`: how many such processes share them.

    `clock` is in seconds and only moves forward.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, share: Callable[[], int] = lambda: 1
    ) -> None:
        self._clock = clock
        self._share = share
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    def reserve(self, host: str, limits: Limits, *, patience: float = PATIENCE) -> float:
        """Reserve the next slot of `host`; returns the seconds to wait for it.

        A wait longer than `patience` reserves nothing: do not sleep it.
        """
        now = self._clock()
        self._forget(now)
        lane = self._lanes[host]
        tolerance = (limits.burst - 1) / limits.rate
        due = max(lane.due, now)
        if lane.closed > max(due - tolerance, now):
            due = lane.closed + tolerance  # no burst right after a cool-down
        wait = max(due - tolerance - now, 0.0)
        if wait <= patience:
            lane.due = due + lane.slow * max(self._share(), 1) / limits.rate
        return wait

    def penalise(self, host: str, seconds: float) -> None:
        """The host asked us to slow down: double the interval, and ask nothing for `seconds`."""
        now = self._clock()
        lane = self._lanes[host]
        if now - lane.slowed_at >= HOLD:
            lane.slow = min(lane.slow * 2, SLOWEST)
            lane.slowed_at = now
        lane.closed = max(lane.closed, now + seconds)
        lane.clean = 0

    def clean(self, host: str) -> None:
        """The host gave a good answer: twenty of them take 5 % off a slowed interval."""
        lane = self._lanes.get(host)
        if lane is None or lane.slow <= 1.0:
            return
        lane.clean += 1
        if lane.clean >= CLEAN_ANSWERS:
            lane.clean = 0
            lane.slow = max(lane.slow * EASING, 1.0)

    def closed_for(self, host: str) -> float:
        """Seconds for which `host` is not to be asked at all."""
        lane = self._lanes.get(host)
        return max(lane.closed - self._clock(), 0.0) if lane else 0.0

    def _forget(self, now: float) -> None:
        if len(self._lanes) > _HOSTS:
            for host in [host for host, lane in self._lanes.items() if lane.idle(now)]:
                del self._lanes[host]
