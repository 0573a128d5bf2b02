"""Formatting of values for people: durations, instants, enum values, shares. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.core import durations
from app.core.enums import JobStatus, RunStatus

UTC_NAME = "UTC"
DASH = "\N{EN DASH}"
_ALL = 100
_THOUSAND = 1000
_TENTHS = 9.95  # of a unit, below which tenths of a size are shown
HALF_DAY = timedelta(hours=12)

# A shape besides the colour, so that a state can be read without seeing the colour.
_GLYPHS: dict[str, str] = {
    JobStatus.HEALTHY: "●",
    JobStatus.UNHEALTHY: "▲",
    JobStatus.NOT_STARTED: "○",
    JobStatus.PAUSED: "■",
    RunStatus.SUCCESS: "●",
    RunStatus.PARTIAL_FAILURE: "◐",
    RunStatus.RUNNING: "▶",
    RunStatus.QUEUED: "○",
    "enabled": "●",
    "disabled": "■",
    "retired": "■",
    "ran": "●",
    "skipped": "\N{EN DASH}",
    "missed": "✕",
    "unknown": "?",
}


def span(seconds: float | None) -> str:
    """A duration in its two largest units, a dash if unknown: `4 min 12 s`, `0.4 s`."""
    return DASH if seconds is None else durations.span(seconds)


def short_span(seconds: float | None) -> str:
    """A duration in its largest unit, a dash if unknown: `4 min`."""
    return DASH if seconds is None else durations.short_span(seconds)


def instant(value: datetime | None) -> str:
    """An instant in UTC without its zone, which the page names once: `2026-03-01 12:00:05`."""
    return DASH if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def clock(value: datetime | None, now: datetime) -> str:
    """The time of day in UTC, with the date if the instant is half a day or more from `now`."""
    if value is None:
        return DASH
    at = value.astimezone(UTC)
    return f"{at:%H:%M:%S}" if abs(now - value) < HALF_DAY else f"{at:%Y-%m-%d %H:%M}"


@lru_cache(maxsize=8192)
def precise_instant(value: datetime) -> str:
    """An instant in UTC with its fraction of a second, if any: `2026-03-01 12:00:05.25`."""
    text = value.isoformat(sep=" ")
    return text.removesuffix("+00:00")


def iso(value: datetime) -> str:
    """An instant in ISO 8601, for attributes and URLs: `2026-03-01T12:00:05Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def local_time(value: datetime | None, zone: str) -> str:
    """`13:00:05 Africa/Lagos`, with the date if it differs from the one in UTC."""
    if value is None:
        return DASH
    at = value.astimezone(ZoneInfo(zone))
    day = "" if at.date() == value.astimezone(UTC).date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S} {zone}"


def enum_text(value: str | None) -> str:
    """An enum value as text: `not_started` becomes `not started`."""
    return DASH if value is None else value.replace("_", " ")


def labelled(key: str, names: Mapping[str, str]) -> str:
    """The name of the job with this key, which is the key itself unless it has another."""
    return names.get(key, key)


def symbol(value: str) -> str:
    return _GLYPHS.get(value, "▲")


def percentage(part: int, whole: int) -> str:
    """A percentage: `98 %`. Rounded to 100 or 0 only if it is exactly that."""
    if not whole:
        return DASH
    most, least = (_ALL, 1) if part == whole else (_ALL - 1, 1 if part else 0)
    return f"{min(max(round(_ALL * part / whole), least), most)} %"


def fraction(value: Decimal | float | None) -> str:
    """A fraction as a percentage with one decimal: `-1.2 %`."""
    return DASH if value is None else f"{value * 100:.1f} %"


def number(value: float | None) -> str:
    """A number with thousands separators: `12,345`."""
    return DASH if value is None else f"{value:,}"


def clipped(text: str | None, limit: int) -> str:
    """At most `limit` characters, ending in `…` if the text was cut."""
    if not text:
        return ""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def megabytes(value: float | None) -> str:
    """A size: `142 MB`."""
    return DASH if value is None else f"{value / 1_000_000:,.0f} MB"


def size(value: float) -> str:
    """A number of bytes in its unit: `999 B`, `1.4 kB`, `142 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < _THOUSAND - 0.5:
            digits = 1 if value < _TENTHS and unit != "B" else 0
            return f"{value:.{digits}f} {unit}"
        value /= _THOUSAND
    return f"{value:,.1f} TB"
