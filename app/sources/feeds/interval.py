"""The polling interval of a feed with `every = "auto"`."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from app.sources.feeds.feed import Feed

MIN_INTERVAL = timedelta(minutes=5)
MAX_INTERVAL = timedelta(hours=24)
DEFAULT_INTERVAL = timedelta(hours=1)  # for a feed whose publishing rate is not known
_MAX_ENTRIES = 20  # entries whose dates are used
_POLLS_PER_ENTRY = 2  # polls per expected entry
_IDLE_DIVISOR = 10  # the interval is at least a tenth of the time since the newest entry

_MAX_AGE = re.compile(r"(?:^|[\s,])(?:s-maxage|max-age)\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_NOT_CACHED = re.compile(r"no-store|no-cache", re.IGNORECASE)


def poll_interval(feed: Feed, headers: Mapping[str, str], now: datetime) -> timedelta:
    """Return how long to wait after `now` (UTC): between five minutes and 24 hours.

    Half the median time between two entries; longer if the newest entry is old. At least the feed's
    ttl and the response's max-age, and never in its skip hours or skip days.
    `headers` have lower-case names.
    """
    wait = max(_expected_gap(feed, now), feed.ttl or MIN_INTERVAL, _max_age(headers), MIN_INTERVAL)
    wait = min(wait, MAX_INTERVAL)
    while wait < MAX_INTERVAL and _is_skipped(feed, now + wait):
        wait += timedelta(hours=1)
    return min(wait, MAX_INTERVAL)


def _expected_gap(feed: Feed, now: datetime) -> timedelta:
    dates = {entry["published"] or entry["updated"] for entry in feed.entries} - {None}
    past = sorted((date for date in dates if date <= now), reverse=True)[:_MAX_ENTRIES]
    if not past:
        return DEFAULT_INTERVAL
    idle = (now - past[0]) / _IDLE_DIVISOR
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(past)]
    typical = timedelta(seconds=median(gaps)) / _POLLS_PER_ENTRY if gaps else DEFAULT_INTERVAL
    return max(typical, idle)


def _max_age(headers: Mapping[str, str]) -> timedelta:
    cache_control = headers.get("cache-control", "")
    found = _MAX_AGE.search(cache_control)
    if found is None or _NOT_CACHED.search(cache_control):
        return timedelta()
    return timedelta(seconds=int(found[1]))


def _is_skipped(feed: Feed, at: datetime) -> bool:
    return at.hour in feed.skip_hours or at.weekday() in feed.skip_days
