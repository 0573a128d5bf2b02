"""How soon others went on with what a worker had to leave, by the runs' own events. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from scripts.storm.judge import Told
from scripts.storm.servers import Span

_ENDINGS = {"finished", "cancelled", "lost"}


@dataclass(frozen=True, slots=True)
class End:
    """When a process was struck, and when it was gone."""

    pid: int
    struck: datetime
    gone: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds from a worker's end to the next attempt's start.

    `possible`: of these, those in which both servers and some worker were up to take it on.
    """

    run: str
    seconds: float
    possible: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Median and maximum, in seconds; None if there was nothing to measure."""

    count: int
    p50: float | None
    max: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figures":
        """Sum up."""
        if not values:
            return cls(0, None, None)
        return cls(len(values), round(median(values), 2), round(max(values), 2))


def waits(
    told: Sequence[Told], ends: Iterable[End], possible: Callable[[Span], float]
) -> list[Wait]:
    """For every run that was under way when its worker was struck, and was begun again by another.

    A run that the struck worker brought to its end by itself has not waited for anybody.
    """
    found: list[Wait] = []
    for end in ends:
        for run, mine in _by_run(told).items():
            again = _next_start(mine, end)
            if again is not None:
                seconds = (again - end.struck).total_seconds()
                found.append(Wait(run, seconds, possible((end.struck, again))))
    return found


def _by_run(told: Sequence[Told]) -> dict[str, list[Told]]:
    runs: dict[str, list[Told]] = {}
    for event in told:
        runs.setdefault(event.run, []).append(event)
    return runs


def _next_start(run: Sequence[Told], end: End) -> datetime | None:
    """When another attempt began, if one of this process was cut short by its end."""
    begun = [t for t in run if t.event == "started" and t.pid == end.pid and _near(t.at, end)]
    if not begun:
        return None
    mine = begun[-1]
    if any(t.event in _ENDINGS and t.attempt == mine.attempt and t.at < end.struck for t in run):
        return None
    later = [t.at for t in run if t.event == "started" and t.attempt > mine.attempt]
    return min(later, default=None)


def _near(at: datetime, end: End) -> bool:
    # A process id may come twice in a long storm.
    return end.struck - timedelta(minutes=2) < at < end.struck


def measure(ups: Iterable[Span], downs: Iterable[Span]) -> Callable[[Span], float]:
    """How to count the seconds of a span in which somebody was up and nothing was down."""
    ups, downs = list(ups), list(downs)

    def possible(span: Span) -> float:
        cuts = sorted({*span, *(cut for s in (*ups, *downs) for cut in s if _within(cut, span))})
        total = timedelta(0)
        for start, stop in pairwise(cuts):
            middle = start + (stop - start) / 2
            if any(_within(middle, up) for up in ups) and not any(
                _within(middle, down) for down in downs
            ):
                total += stop - start
        return total.total_seconds()

    return possible


def _within(instant: datetime, span: Span) -> bool:
    return span[0] <= instant <= span[1]
