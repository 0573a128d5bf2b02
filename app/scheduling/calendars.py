"""Reads the events of an iCalendar file (RFC 5545) as exclusion rules. Pure.

Only what can be read in full is accepted: an event that repeats is refused, not taken as one.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.core.errors import BadSchedule
from app.scheduling.cron import check_zone, quoted

EMPTY_CALENDAR = "BEGIN:VCALENDAR"
_DAY = timedelta(days=1)
_REFUSED = ("RRULE", "RDATE", "EXDATE", "RECURRENCE-ID", "DURATION")
_PROPERTY = re.compile(
    r'(?P<name>[A-Za-z0-9-]+)(?P<options>(?:;[^:;"]*(?:"[^"]*")?)*):(?P<value>.*)'
)

Event = dict[str, tuple[str, str]]


def expand(rules: Sequence[str], read: Callable[[str], str], timezone: str = "UTC") -> list[str]:
    """Return the rules, with the events of each calendar in place of its file name.

    `read`: returns the text of a file that ends in `.ics`. `timezone`: of the schedule, in which
    local times are read. Raises BadSchedule.
    """
    expanded: list[str] = []
    for rule in rules:
        is_file = rule.lower().endswith(".ics")
        expanded += read_events(read(rule), rule, timezone) if is_file else [rule]
    return expanded


def read_events(text: str, name: str = "the calendar", timezone: str = "UTC") -> list[str]:
    """Return an exclusion rule for each event, in order. Raises BadSchedule."""
    lines = re.sub(r"\r?\n[ \t]", "", text).splitlines()
    if not lines or lines[0].strip().upper() != "BEGIN:VCALENDAR":
        raise BadSchedule(f"Invalid exclude: {name} is not an iCalendar file")
    try:
        held = (e for e in _events(lines) if e.get("STATUS", ("", ""))[1].upper() != "CANCELLED")
        return [_rule(event, timezone) for event in held]
    except BadSchedule as error:
        raise BadSchedule(f"Invalid exclude: {name}: {error}") from None
    except OverflowError:
        raise BadSchedule(
            f"Invalid exclude: {name}: an event is outside of the years 1 to 9999 in UTC"
        ) from None


def _events(lines: Sequence[str]) -> Iterator[Event]:
    event: Event | None = None
    nested = 0  # alarms inside an event have properties of their own
    for line in lines:
        match = _PROPERTY.fullmatch(line)
        if match is None:
            continue
        name, value = match["name"].upper(), match["value"].strip()
        if (name, value.upper()) == ("BEGIN", "VEVENT"):
            event, nested = {}, 0
        elif (name, value.upper()) == ("END", "VEVENT") and event is not None:
            yield event
            event = None
        elif name in ("BEGIN", "END"):
            nested += 1 if name == "BEGIN" else -1
        elif event is not None and not nested:
            event[name] = (match["options"], value)


def _rule(event: Event, timezone: str) -> str:
    title = quoted(event.get("SUMMARY", ("", "without a title"))[1])
    for name in _REFUSED:
        if name in event:
            raise BadSchedule(
                f"the event {title} has {name}, which is not supported: list each day"
            )
    if "DTSTART" not in event:
        raise BadSchedule(f"the event {title} has no DTSTART")
    begin = _moment(title, *event["DTSTART"], timezone)
    if "DTEND" in event:
        end = _moment(title, *event["DTEND"], timezone)
    elif isinstance(begin, datetime):
        raise BadSchedule(f"the event {title} has no DTEND")
    else:
        end = begin + _DAY
    if isinstance(begin, datetime) != isinstance(end, datetime):
        raise BadSchedule(f"the event {title} begins with a date and ends with a time, or reverse")
    if not isinstance(end, datetime):
        end -= _DAY  # DTEND is the first day after the event
    return f"{begin.isoformat()}/{end.isoformat()}"


def _moment(title: str, options: str, value: str, timezone: str) -> date | datetime:
    try:
        if "T" not in value:
            return datetime.strptime(value, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
        at = datetime.strptime(value.removesuffix("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007 - set below
    except ValueError:
        raise BadSchedule(f"the event {title} has the time {quoted(value)}") from None
    if value.endswith("Z"):
        return at.replace(tzinfo=UTC)
    zone = re.search(r';TZID="?([^";:]+)"?', options, re.IGNORECASE)
    if zone is None or zone[1] == timezone:
        return at  # local time of the schedule's zone, whose data its version names
    check_zone(zone[1])
    return at.replace(tzinfo=ZoneInfo(zone[1])).astimezone(UTC)
