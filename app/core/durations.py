"""Durations: parsed from texts such as `15m` and `1h30m`, and written for people."""

import re
from datetime import timedelta

MAX_DURATION = timedelta(days=366)

_PART = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_LONG_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_TENTHS = 9.95  # seconds below which tenths are shown


def parse_duration(text: object, longest: timedelta = MAX_DURATION) -> timedelta:
    """Return `text` as a duration of at most `longest`. Raises ValueError."""
    if isinstance(text, timedelta):
        return text
    normalized = text.strip().lower() if isinstance(text, str) else ""
    parts = _PART.findall(normalized)
    if not parts or _PART.sub("", normalized).strip():
        raise ValueError(f'{str(text)[:40]!r} is not a duration; write "15m", "2h" or "1d"')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > longest.total_seconds():
        raise ValueError(
            f"{str(text)[:40]!r} is longer than {longest.days:,} days; write a shorter one"
        )
    return timedelta(seconds=seconds)


def span(seconds: float) -> str:
    """A duration in its two largest units: `4 min 12 s`, `0.4 s`."""
    if seconds < _TENTHS:
        return f"{max(seconds, 0):.1f} s" if round(seconds, 1) > 0 else "0 s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def short_span(seconds: float) -> str:
    """A duration in its largest unit: `4 min`."""
    return " ".join(span(seconds).split()[:2])


def in_words(duration: timedelta, *, one: str = "") -> str:
    """A duration in one unit, exactly: `5 minutes`, `90 seconds`; `one` precedes a single unit."""
    for unit, name in _LONG_UNITS:
        count, rest = divmod(duration, timedelta(seconds=unit))
        if count and not rest:
            return f"{one}{name}" if count == 1 else f"{count:,} {name}s"
    seconds = duration.total_seconds()
    return f"{int(seconds) if seconds.is_integer() else seconds} seconds"
