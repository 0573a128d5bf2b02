"""Parsing of feed dates to UTC. An invalid date is reported, never guessed."""

import re
from datetime import UTC, datetime, timedelta, timezone

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ZONES = {
    **dict.fromkeys(("UT", "UTC", "GMT", "Z"), 0),
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
    "BST": 1,
    "WET": 0,
    "WEST": 1,
    "CET": 1,
    "CEST": 2,
    "EET": 2,
    "EEST": 3,
    "JST": 9,
}

# RFC 822 and RFC 2822, section 3.3, with common deviations: no comma, no seconds, "Sept".
_MAIL = re.compile(
    r"(?:[^\W\d]+\.?,?\s+)?(?P<day>\d{1,2})[\s-]+(?P<month>[A-Za-z]{3,9})\.?,?[\s-]+(?P<year>\d{4}|\d\d)"
    r"(?:,?\s+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d{1,9})?)?"
    r"(?:\s*(?P<zone>[+-]\d\d:?\d\d|[A-Za-z]{1,5})(?:\s*\(\w{1,40}\))?)?)?"
)
# RFC 3339, and looser forms of ISO 8601.
_ISO = re.compile(
    r"(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)"
    r"(?:[Tt\s]\s*(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<part>\d{1,12}))?)?"
    r"\s*(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
)
_MAX_LENGTH = 100
_CENTURY_PIVOT = 50


def parse_date(text: str, field: str) -> tuple[datetime | None, str | None]:
    """Return the UTC datetime in `text`, and the fault if there is one; `field` names it there.

    The datetime is None if `text` is not a valid date. A date without a time zone is read as UTC,
    with a fault that says so.
    """
    text = text.strip()
    found = None if len(text) > _MAX_LENGTH else _MAIL.fullmatch(text) or _ISO.fullmatch(text)
    if found is None:
        return None, f"{field}: {text[:60]!r} is not a valid date"
    try:
        return _instant(found), _assumption(found, field, text)
    except (ValueError, OverflowError) as error:
        return None, f"{field}: {text[:60]!r} is not a valid date: {error}"


def _instant(found: re.Match[str]) -> datetime:
    parts = found.groupdict()
    local = datetime(
        _year(parts["year"]),
        _month(parts["month"]),
        int(parts["day"]),
        int(parts["hour"] or 0),
        int(parts["minute"] or 0),
        min(int(parts["second"] or 0), 60) % 60,
        int((parts.get("part") or "0").ljust(6, "0")[:6]),
        _zone(parts["zone"] or "Z"),
    )
    is_leap_second = parts["second"] == "60"  # read as second 0 of the next minute
    return local.astimezone(UTC) + timedelta(minutes=1 if is_leap_second else 0)


def _year(text: str) -> int:
    year = int(text)
    if len(text) == len("2026"):
        return year
    return year + (2000 if year < _CENTURY_PIVOT else 1900)  # RFC 2822, section 4.3


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    if text[:3].lower() not in _MONTHS:
        raise ValueError(f"unknown month {text}")
    return _MONTHS.index(text[:3].lower()) + 1


def _zone(text: str) -> timezone:
    if text[0] in "+-":
        digits = text[1:].replace(":", "").ljust(4, "0")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if int(digits[2:]) >= 60:  # noqa: PLR2004 - minutes in an hour
            raise ValueError(f"invalid time zone offset {text}")
        return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
    if text.upper() not in _ZONES:
        raise ValueError(f"unknown time zone {text}")
    return timezone(timedelta(hours=_ZONES[text.upper()]))


def _assumption(found: re.Match[str], field: str, text: str) -> str | None:
    if found["hour"] is None:
        return f"{field}: {text!r} has no time of day; read as midnight UTC"
    return None if found["zone"] else f"{field}: {text!r} has no time zone; read as UTC"
