"""A cache of decided ticks, so that only new ones are read from Postgres."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.core.enums import OPEN_STATUSES
from app.scheduling.schedule import EPOCH
from app.store.reports.overview import GapSummary, ScheduleSummary, TickSummary

# For a tick this old, a run that is not found was removed by retention.
SETTLE_TIME = timedelta(minutes=10)
NO_TICKS: tuple[int, list[TickSummary]] = (0, [])
_INSTANT = timedelta(microseconds=1)


@dataclass(slots=True)
class TickCache:
    """The last `max_ticks` ticks of each schedule, newest first, by the schedule's id.

    After an edit all ticks of a schedule are read again, because an edit may supersede ticks.
    """

    max_ticks: int
    _ticks: dict[int, tuple[int, list[TickSummary]]] = field(
        default_factory=dict[int, tuple[int, list[TickSummary]]]
    )

    def read_after(self, schedules: Iterable[ScheduleSummary]) -> dict[int, datetime]:
        """By schedule id, the instant after which ticks may still change and must be read."""
        return {line.id: self._settled_until(line) for line in schedules}

    def _settled_until(self, line: ScheduleSummary) -> datetime:
        version, ticks = self._ticks.get(line.id, NO_TICKS)
        if version != line.version or not ticks:
            return EPOCH
        settled_until = line.evaluated_through - SETTLE_TIME
        unsettled = [
            tick.scheduled_for
            for tick in ticks
            if tick.status in OPEN_STATUSES
            or (tick.status is None and tick.scheduled_for > settled_until)
        ]
        return unsettled[-1] - _INSTANT if unsettled else ticks[0].scheduled_for

    def merge(
        self,
        schedules: Sequence[ScheduleSummary],
        after: Mapping[int, datetime],
        new: list[TickSummary],
    ) -> dict[int, list[TickSummary]]:
        """Merge newly read ticks into the cache. Returns all ticks by schedule id, newest first."""
        fresh: dict[int, list[TickSummary]] = {line.id: [] for line in schedules}
        for tick in new:
            fresh[tick.schedule_id].append(tick)
        known: dict[int, list[TickSummary]] = {}
        for line in schedules:
            cached = self._ticks.get(line.id, NO_TICKS)[1]
            known[line.id] = _merge(fresh[line.id], cached, after[line.id])[: self.max_ticks]
        self._ticks = {line.id: (line.version, known[line.id]) for line in schedules}
        return known

    def invalidate(self, gaps: Iterable[GapSummary]) -> None:
        """Drop the cached ticks of schedules whose ticks were compacted into a gap row."""
        for gap in gaps:
            version, ticks = self._ticks.get(gap.schedule_id, NO_TICKS)
            if ticks and ticks[-1].scheduled_for <= gap.last_tick:
                remaining = [
                    tick
                    for tick in ticks
                    if not gap.first_tick <= tick.scheduled_for <= gap.last_tick
                ]
                if len(remaining) != len(ticks):
                    # Older ticks take the free places, so all are read again.
                    self._ticks[gap.schedule_id] = (version, [])


def _merge(
    fresh: list[TickSummary], cached: list[TickSummary], after: datetime
) -> list[TickSummary]:
    if not fresh and (not cached or cached[0].scheduled_for <= after):
        return cached
    fresh.sort(key=lambda tick: tick.scheduled_for, reverse=True)
    return fresh + [tick for tick in cached if tick.scheduled_for <= after]
