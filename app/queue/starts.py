"""The next starts of cron entries that work in bulk makes way for."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.queue.cron import utc_now

AFTER = timedelta(milliseconds=30)  # what a start takes until its run has been claimed


@dataclass(slots=True)
class NextStarts:
    """The instants of the next starts, and of those just past.

    One whole second starts many built-in jobs. A batch that is under way then takes the processor
    and Postgres from all of them.
    """

    clock: Callable[[], datetime] = utc_now
    _instants: list[datetime] = field(default_factory=list[datetime])

    def expect(self, instant: datetime) -> None:
        """Make way for a start at this instant."""
        self._forget_past(self.clock())
        heapq.heappush(self._instants, instant)

    def __len__(self) -> int:
        """Count the starts that are expected, and those just past."""
        return len(self._instants)

    def rest(self, seconds: float) -> float:
        """Return for how many seconds to wait before work that takes `seconds`.

        0 unless a start falls into that time. Never more than the work takes, so that a great many
        starts halve the pace of such work, and do not stop it.
        """
        now = self.clock()
        self._forget_past(now)
        if not self._instants or self._instants[0] >= now + timedelta(seconds=seconds):
            return 0.0
        return min((self._instants[0] + AFTER - now).total_seconds(), seconds)

    def _forget_past(self, now: datetime) -> None:
        while self._instants and self._instants[0] + AFTER <= now:
            heapq.heappop(self._instants)
