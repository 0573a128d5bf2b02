"""Quiet hours: a daily period in a time zone. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from zoneinfo import ZoneInfo

_FORMAT = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)(?:\s+(\S+))?")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A daily period [`begins`, `ends`) in the local time of `zone`; may span midnight."""

    begins: time
    ends: time
    zone: tzinfo

    def covers(self, instant: datetime) -> bool:
        """Return whether `instant` is in the period."""
        local = instant.astimezone(self.zone).time()
        if self.begins <= self.ends:
            return self.begins <= local < self.ends
        return local >= self.begins or local < self.ends


def parse(text: str) -> QuietHours:
    """Parse `22:00-07:00 Europe/London`. Raises ValueError with what is wrong."""
    match = _FORMAT.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be HH:MM-HH:MM and a time zone, such as 22:00-07:00 Europe/London")
    hours = [int(part) for part in match.groups()[:4]]
    if hours[:2] == hours[2:]:
        raise ValueError("begins when it ends, and so covers nothing: set another end, or none")
    return QuietHours(time(hours[0], hours[1]), time(hours[2], hours[3]), _zone(match[5]))


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:60]!r}") from None
