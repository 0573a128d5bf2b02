"""Retry policy: whether and when to retry a request, and how many retries a host has. Pure."""

import re
from datetime import UTC, datetime

from app.core.errors import Failure
from app.sources import dates

ATTEMPTS_PER_PAGE = 3
MAX_WAIT = 30.0  # seconds; a worker does not sleep longer while it holds a slot
MAX_RETRY_AFTER = 3_600.0  # seconds; the longest Retry-After that is honoured
RETRY_SHARE = 0.1  # of a host's requests in an hour that may be retries
MIN_RETRIES = 10  # retries in an hour that every host has, however few its requests
_BASE = 1.0
_IDEMPOTENT = frozenset({"GET", "HEAD"})
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]*)?)(?: ?s(?:ec(?:onds?)?)?)?", re.IGNORECASE)
_UNIX_TIMES = (1e9, 5e9)  # numbers that are instants, of the years 2001 to 2128


def allowed_retries(requests: int) -> int:
    """How many retries a host has in an hour with so many requests."""
    return max(MIN_RETRIES, int(requests * RETRY_SHARE))


def should_retry(failure: Failure, method: str, attempt: int, *, read_only: bool = False) -> bool:
    """Whether to retry after attempt number `attempt` (from 1) ended in `failure`.

    `read_only`: the request changes nothing at the site, whatever its method.
    """
    may_repeat = read_only or method.upper() in _IDEMPOTENT
    return failure.retry and attempt < ATTEMPTS_PER_PAGE and may_repeat


def retry_delay(failure: Failure, attempt: int, chance: float) -> float:
    """Seconds to wait before the next attempt: full jitter, at least the site's Retry-After.

    `chance` is a random number in [0, 1).
    """
    jitter = chance * _BASE * 2.0 ** (attempt - 1)
    return max(jitter, failure.retry_in or 0.0)


def retry_after(value: str | None, now: datetime) -> float | None:
    """The wait of a Retry-After header in seconds, at most an hour; None if absent or invalid.

    RFC 9110 10.2.3: seconds or an HTTP date; also any other date that feeds may have, and Unix
    time. A date in the past means no wait. `now` is aware.
    """
    text = (value or "").strip()[:64]
    found = _SECONDS.fullmatch(text)
    if found and not _UNIX_TIMES[0] <= float(found[1]) < _UNIX_TIMES[1]:
        return min(float(found[1]), MAX_RETRY_AFTER)
    try:
        until = dates.read_date(text).at
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
