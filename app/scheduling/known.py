"""What is known already of a rule's instants, so that many schedules alike ask for them once. Pure.

A gap (start, end) says that the rule names `end` and nothing between the two.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime

MOST_GAPS = 24


class Known:
    """Some gaps between a rule's instants, the last that were asked for."""

    __slots__ = ("_gaps", "_sorted")

    def __init__(self) -> None:
        self._gaps: dict[datetime, datetime] = {}  # start by end, in the order they were learned
        self._sorted: tuple[list[datetime], list[datetime]] = ([], [])

    def after(self, instant: datetime) -> datetime | None:
        """The first instant later than `instant`; None if that is not known."""
        starts, ends = self._sorted
        index = bisect_right(starts, instant) - 1
        return ends[index] if index >= 0 and instant < ends[index] else None

    def learn(self, start: datetime, instants: Iterable[datetime]) -> None:
        """Keep the instants that follow `start`, each the next one after that before it."""
        gaps = dict(self._gaps)
        for end in instants:
            gaps[end] = min(gaps.pop(end, start), start)
            start = end
        while len(gaps) > MOST_GAPS:
            del gaps[next(iter(gaps))]
        inside = sorted((begin, end) for end, begin in gaps.items())
        # Replaced at once, never changed: another thread may be reading.
        self._gaps = gaps
        self._sorted = ([begin for begin, _ in inside], [end for _, end in inside])
