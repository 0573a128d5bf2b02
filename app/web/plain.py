"""Values in plain words: spans, instants, closed words and their shapes. Pure."""

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.words import JobStatus, RunStatus

NOTHING = "\N{EN DASH}"
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_ALL = 100
_TENTHS = 9.95  # seconds below which a tenth is worth saying

# Shape beside colour, so that a state can be read without seeing the colour.
_GLYPHS: dict[str, str] = {
    JobStatus.HEALTHY: "●",
    JobStatus.UNHEALTHY: "▲",
    JobStatus.NOT_STARTED: "○",
    JobStatus.PAUSED: "■",
    RunStatus.SUCCESS: "●",
    RunStatus.PARTIAL_FAILURE: "◐",
    RunStatus.RUNNING: "▶",
    RunStatus.QUEUED: "○",
    "ran": "●",
    "skipped": "\N{EN DASH}",
    "missed": "✕",
    "unknown": "?",
}


def span(seconds: float | None) -> str:
    """Seconds in the two largest units that fit: `4 min 12 s`, `0.4 s`."""
    if seconds is None:
        return NOTHING
    if seconds < _TENTHS:
        return f"{max(seconds, 0):.1f} s" if round(seconds, 1) else "0 s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def about(seconds: float | None) -> str:
    """Seconds in the largest unit that fits: `4 min`."""
    return " ".join(span(seconds).split()[:2])


def instant(value: datetime | None) -> str:
    """`2026-03-01 12:00:05`, in UTC as the page says once."""
    return NOTHING if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def clock(value: datetime | None, now: datetime) -> str:
    """The time of day; with the day before it, unless that is today."""
    if value is None:
        return NOTHING
    at = value.astimezone(UTC)
    return f"{at:%H:%M:%S}" if at.date() == now.astimezone(UTC).date() else f"{at:%Y-%m-%d %H:%M}"


@lru_cache(maxsize=8192)
def moment(value: datetime) -> str:
    """An instant of UTC with as much of its second as there is: `2026-03-01 12:00:05.25`."""
    text = value.isoformat(sep=" ")
    return text.removesuffix("+00:00")


def iso(value: datetime) -> str:
    """For machines, and for addresses: `2026-03-01T12:00:05Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def local(value: datetime | None, zone: str) -> str:
    """`13:00:05 in Africa/Lagos`, with the day where it is another than in UTC."""
    if value is None:
        return NOTHING
    there = value.astimezone(ZoneInfo(zone))
    day = "" if there.date() == value.astimezone(UTC).date() else f"{there:%Y-%m-%d} "
    return f"{day}{there:%H:%M:%S} {zone}"


def words(value: str | None) -> str:
    """A closed word as one would say it: `not_started` is `not started`."""
    return NOTHING if value is None else value.replace("_", " ")


def glyph(value: str) -> str:
    """The shape of a state."""
    return _GLYPHS.get(value, "▲")


def share(part: int, whole: int) -> str:
    """`98 %`; never rounded up to all nor down to nothing."""
    if not whole:
        return NOTHING
    most, least = (_ALL, 1) if part == whole else (_ALL - 1, 1 if part else 0)
    return f"{min(max(round(_ALL * part / whole), least), most)} %"


def number(value: float | None) -> str:
    """`12,345`."""
    return NOTHING if value is None else f"{value:,}"


def clipped(text: str | None, most: int) -> str:
    """At most that many characters, the rest as `…`."""
    if not text:
        return ""
    return text if len(text) <= most else f"{text[: most - 1]}…"
