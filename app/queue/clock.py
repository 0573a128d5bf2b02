"""The time of cron entries, which never goes back."""

import time
from collections.abc import Callable

SLEW = 0.9  # speed while the machine's clock catches up


class ElapsedClock:
    """Seconds since the epoch by another clock, but they never go back.

    After that clock is set back, elapsed time goes on, a tenth slower until the two agree again.
    Cron entries go by this clock: the machine's, and the database's once a worker knows it.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._now, self._read_at = wall(), monotonic()

    def follow(self, wall: Callable[[], float]) -> None:
        """Follow another clock from now on; only before anything was scheduled by this one."""
        self._wall, self._now, self._read_at = wall, wall(), self._monotonic()

    def __call__(self) -> float:
        """Return the present time."""
        read_at = self._monotonic()
        passed = max(read_at - self._read_at, 0.0)
        self._now = max(self._wall(), self._now + SLEW * passed)
        self._read_at = read_at
        return self._now


# One for the process: a clock that is created after a step back has not seen it.
elapsed = ElapsedClock()
