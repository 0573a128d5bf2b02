"""Whether and when to ask again. Pure: the failure, the attempt and a chance come in."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from app.errors import Failure

ATTEMPTS = 3
PATIENCE = 30.0  # seconds; a longer wait is not slept in a worker's slot
LONGEST = 3_600.0  # seconds; what a site may ask of us at once
SHARE = 0.1  # of a host's requests in an hour may be retries
FLOOR = 10  # retries in an hour that even a host which is seldom asked may have
HOUR = 3_600.0
_BASE = 1.0
_IDEMPOTENT = frozenset({"GET", "HEAD"})
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")


def helps(failure: Failure, method: str, attempt: int) -> bool:
    """Whether to ask again after the `attempt`-th try (from 1) ended in `failure`."""
    return failure.retry and attempt < ATTEMPTS and method.upper() in _IDEMPOTENT


def pause(failure: Failure, attempt: int, chance: float) -> float:
    """Seconds to wait before the next try: full jitter, never less than the site asked for.

    `chance` is random in [0, 1).
    """
    jitter = chance * _BASE * 2.0 ** (attempt - 1)
    return max(jitter, failure.retry_in or 0.0)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, 0 to LONGEST; None where it says nothing.

    RFC 9110 10.2.3: seconds or an HTTP date. Nonsense (negative, not a date) says nothing, a date
    in the past asks for no wait. `now` is aware.
    """
    text = (value or "").strip()[:64]
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST)
    try:
        until = parsedate_to_datetime(text)
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST)


class Budget:
    """How many retries each host has left in this hour, as one process counts them.

    `clock` is in seconds; its hours begin when it says a multiple of 3600.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hour = -1
        self._counts: dict[str, tuple[int, int]] = {}

    def left(self, host: str) -> bool:
        """Whether `host` may be asked again."""
        asked, again = self._counted(host)
        return again < allowed(asked)

    def count(self, host: str, *, again: bool) -> None:
        """A request to `host` is under way; `again`: it is a retry."""
        asked, so_far = self._counted(host)
        self._counts[host] = (asked + 1, so_far + again)

    def _counted(self, host: str) -> tuple[int, int]:
        hour = int(self._clock() // HOUR)
        if hour != self._hour:
            self._hour = hour
            self._counts.clear()
        return self._counts.get(host, (0, 0))


def allowed(asked: int) -> int:
    """How many retries `asked` requests of one hour allow."""
    return max(FLOOR, int(asked * SHARE))
