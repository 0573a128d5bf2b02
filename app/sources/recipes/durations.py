"""Parsing of durations such as `15m`, `2h` and `1h30m`."""

import re
from datetime import timedelta

_PART = re.compile(r"([0-9]{1,7})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_DURATION = timedelta(days=366)


def parse_duration(text: object) -> timedelta:
    """Return `text` as a duration of at most 366 days. Raises ValueError."""
    if isinstance(text, timedelta):
        return text
    normalized = text.strip().lower() if isinstance(text, str) else ""
    parts = _PART.findall(normalized)
    if not parts or _PART.sub("", normalized).strip():
        raise ValueError(f'{str(text)[:40]!r} is not a duration; write "15m", "2h" or "1d"')
    total = sum((timedelta(**{_UNITS[unit]: int(n)}) for n, unit in parts), timedelta(0))
    if total > MAX_DURATION:
        raise ValueError(f"{str(text)[:40]!r} is longer than 366 days; write a shorter one")
    return total
