"""Quiet hours: a stretch of every day, in a time zone. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from zoneinfo import ZoneInfo

_WORDING = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)(?:\s+(\S+))?")


@dataclass(frozen=True, slots=True)
class Quiet:
    """From `begins` up to `ends` by the clocks of `zone`; over midnight if it ends earlier."""

    begins: time
    ends: time
    zone: tzinfo

    def covers(self, instant: datetime) -> bool:
        """Whether it is quiet at that instant."""
        there = instant.astimezone(self.zone).time()
        if self.begins <= self.ends:
            return self.begins <= there < self.ends
        return there >= self.begins or there < self.ends


def parse(text: str) -> Quiet:
    """Read `22:00-07:00 Europe/London`. Raises ValueError, which says what is wrong."""
    read = _WORDING.fullmatch(text.strip())
    if read is None:
        raise ValueError("must be HH:MM-HH:MM and a time zone, such as 22:00-07:00 Europe/London")
    hours = [int(part) for part in read.groups()[:4]]
    return Quiet(time(hours[0], hours[1]), time(hours[2], hours[3]), _zone(read[5]))


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name[:60]!r}") from None
