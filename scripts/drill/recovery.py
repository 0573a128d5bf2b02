"""How soon another worker continued a run whose worker ended, from the run's events. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from scripts.drill.judge import RunEvent
from scripts.drill.servers import Span

_ENDINGS = {"finished", "cancelled", "lost"}


@dataclass(frozen=True, slots=True)
class Termination:
    """When a process was signalled, and when it had exited."""

    pid: int
    signalled_at: datetime
    exited_at: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """Seconds from a worker's end to the start of the run's next attempt.

    `possible` counts only those in which both servers and at least one worker were up.
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
        """Summarise the values, in seconds."""
        if not values:
            return cls(0, None, None)
        return cls(len(values), round(median(values), 2), round(max(values), 2))


def waits(
    events: Sequence[RunEvent], ends: Iterable[Termination], possible: Callable[[Span], float]
) -> list[Wait]:
    """Return a Wait for each run that was open when its worker was signalled and was retried.

    A run that the signalled worker finished itself has none.
    """
    found: list[Wait] = []
    for end in ends:
        for run, mine in _by_run(events).items():
            next_start = _next_start(mine, end)
            if next_start is not None:
                seconds = (next_start - end.signalled_at).total_seconds()
                found.append(Wait(run, seconds, possible((end.signalled_at, next_start))))
    return found


def _by_run(events: Sequence[RunEvent]) -> dict[str, list[RunEvent]]:
    runs: dict[str, list[RunEvent]] = {}
    for event in events:
        runs.setdefault(event.run, []).append(event)
    return runs


def _next_start(run: Sequence[RunEvent], end: Termination) -> datetime | None:
    """Return when the next attempt started, if the process's end interrupted one of its own."""
    begun = [
        t for t in run if t.event == "started" and t.pid == end.pid and _shortly_before(t.at, end)
    ]
    if not begun:
        return None
    mine = begun[-1]
    if any(
        t.event in _ENDINGS and t.attempt == mine.attempt and t.at < end.signalled_at for t in run
    ):
        return None
    later = [t.at for t in run if t.event == "started" and t.attempt > mine.attempt]
    return min(later, default=None)


def _shortly_before(at: datetime, end: Termination) -> bool:
    # A process id may be reused in a long chaos run.
    return end.signalled_at - timedelta(minutes=2) < at < end.signalled_at


def available_seconds(ups: Iterable[Span], downs: Iterable[Span]) -> Callable[[Span], float]:
    """Return a function that counts a span's seconds within any of `ups` and none of `downs`."""
    ups, downs = list(ups), list(downs)

    def count(span: Span) -> float:
        cuts = sorted({*span, *(cut for s in (*ups, *downs) for cut in s if _within(cut, span))})
        total = timedelta(0)
        for start, stop in pairwise(cuts):
            middle = start + (stop - start) / 2
            if any(_within(middle, up) for up in ups) and not any(
                _within(middle, down) for down in downs
            ):
                total += stop - start
        return total.total_seconds()

    return count


def _within(instant: datetime, span: Span) -> bool:
    return span[0] <= instant <= span[1]
