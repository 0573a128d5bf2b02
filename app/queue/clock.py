"""The time of the queue: the machine's clock, but never backwards."""

import time
from collections.abc import Callable

SLEW = 0.9  # speed while the machine's clock catches up


class ElapsedClock:
    """Seconds since the epoch by the machine's clock, which never go back.

    After the machine's clock is set back, elapsed time goes on, a tenth slower until the two agree
    again. Alarms go by this clock; what they find due is decided by the database's clock.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._now, self._read_at = wall(), monotonic()

    def __call__(self) -> float:
        """Return the present time."""
        read_at = self._monotonic()
        passed = max(read_at - self._read_at, 0.0)
        self._now = max(self._wall(), self._now + SLEW * passed)
        self._read_at = read_at
        return self._now


# One for the process: a clock that is created after a step back has not seen it.
elapsed = ElapsedClock()
