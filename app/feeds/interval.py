"""How soon a feed is worth asking again: `every = "auto"`."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from app.feeds.feed import Feed

SHORTEST = timedelta(minutes=5)
LONGEST = timedelta(hours=24)
UNKNOWN = timedelta(hours=1)  # where a feed does not tell how often it publishes
_NEWEST = 20  # entries whose dates are looked at
_OFTEN = 2  # polls for each entry to come
_SILENCE = 10  # a feed that rests is asked ten times as long as it has rested already

_MAX_AGE = re.compile(r"(?:^|[\s,])(?:s-maxage|max-age)\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_UNKEPT = re.compile(r"no-store|no-cache", re.IGNORECASE)


def interval(feed: Feed, headers: Mapping[str, str], now: datetime) -> timedelta:
    """How long to wait from `now` (UTC) on; from five minutes to 24 hours.

    Half the usual time between two entries; longer once the feed has fallen silent. Never sooner
    than its ttl and the answer's max-age say, and not within hours or days when it rests.
    `headers` have lower-case names.
    """
    wanted = max(_rhythm(feed, now), feed.ttl or SHORTEST, _fresh_for(headers), SHORTEST)
    wanted = min(wanted, LONGEST)
    while wanted < LONGEST and _rests(feed, now + wanted):
        wanted += timedelta(hours=1)
    return min(wanted, LONGEST)


def _rhythm(feed: Feed, now: datetime) -> timedelta:
    dates = {entry["published"] or entry["updated"] for entry in feed.entries} - {None}
    past = sorted((date for date in dates if date <= now), reverse=True)[:_NEWEST]
    if not past:
        return UNKNOWN
    silence = (now - past[0]) / _SILENCE
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(past)]
    usual = timedelta(seconds=median(gaps)) / _OFTEN if gaps else UNKNOWN
    return max(usual, silence)


def _fresh_for(headers: Mapping[str, str]) -> timedelta:
    told = headers.get("cache-control", "")
    found = _MAX_AGE.search(told)
    if found is None or _UNKEPT.search(told):
        return timedelta()
    return timedelta(seconds=int(found[1]))


def _rests(feed: Feed, at: datetime) -> bool:
    return at.hour in feed.skip_hours or at.weekday() in feed.skip_days
