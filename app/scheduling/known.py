"""A cache of the instants of a cron expression, shared by equal schedules. Pure.

A gap (start, end) means that `end` is an instant of the expression and none lies between the two.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime

MAX_GAPS = 24


class InstantCache:
    """The most recently added gaps, at most MAX_GAPS. Reading is safe from any thread."""

    __slots__ = ("_gaps", "_sorted")

    def __init__(self) -> None:
        self._gaps: dict[datetime, datetime] = {}  # start by end, in the order added
        self._sorted: tuple[list[datetime], list[datetime]] = ([], [])

    def after(self, instant: datetime) -> datetime | None:
        """Return the first instant later than `instant`; None if it is not cached."""
        starts, ends = self._sorted
        index = bisect_right(starts, instant) - 1
        return ends[index] if index >= 0 and instant < ends[index] else None

    def add(self, start: datetime, instants: Iterable[datetime]) -> None:
        """Add consecutive instants, the first of which is the next after `start`."""
        gaps = dict(self._gaps)
        for end in instants:
            gaps[end] = min(gaps.pop(end, start), start)
            start = end
        while len(gaps) > MAX_GAPS:
            del gaps[next(iter(gaps))]
        ordered = sorted((begin, end) for end, begin in gaps.items())
        # Replaced, never mutated: another thread may be reading.
        self._gaps = gaps
        self._sorted = ([begin for begin, _ in ordered], [end for _, end in ordered])
