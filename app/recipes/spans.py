"""Stretches of time as people write them: `15m`, `2h`, `1h30m`."""

import re
from datetime import timedelta

_PART = re.compile(r"([0-9]{1,7})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=366)


def span(text: object) -> timedelta:
    """`text` as a stretch of time, up to 366 days. Raises ValueError."""
    if isinstance(text, timedelta):
        return text
    written = text.strip().lower() if isinstance(text, str) else ""
    parts = _PART.findall(written)
    if not parts or _PART.sub("", written).strip():
        raise ValueError(f'{str(text)[:40]!r} is no stretch of time; write "15m", "2h" or "1d"')
    whole = sum((timedelta(**{_UNITS[unit]: int(n)}) for n, unit in parts), timedelta(0))
    if whole > LONGEST:
        raise ValueError(f"{str(text)[:40]!r} is longer than 366 days; write less")
    return whole
