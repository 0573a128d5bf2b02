"""What was read of the ticks before: decided ticks stay, so only the new ones are asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.store.overview import GapLine, ScheduleLine, TickLine
from app.words import RunStatus

EVER = datetime(1970, 1, 1, tzinfo=UTC)
OPEN = frozenset({RunStatus.QUEUED.value, RunStatus.RUNNING.value})
SETTLED = timedelta(minutes=10)  # a tick this old whose run cannot be found has none any more
NOTHING: tuple[int, list[TickLine]] = (0, [])
_INSTANT = timedelta(microseconds=1)


@dataclass(slots=True)
class Memory:
    """The last ticks of each schedule, newest first, by its id.

    A schedule that was edited is read anew: an edit may take ticks back.
    """

    most: int
    _ticks: dict[int, tuple[int, list[TickLine]]] = field(
        default_factory=dict[int, tuple[int, list[TickLine]]]
    )

    def unknown_after(self, schedules: Iterable[ScheduleLine]) -> dict[int, datetime]:
        """From when on each schedule's ticks have to be read: the first that may still change."""
        return {line.id: self._settled(line) for line in schedules}

    def _settled(self, line: ScheduleLine) -> datetime:
        version, ticks = self._ticks.get(line.id, NOTHING)
        if version != line.version or not ticks:
            return EVER
        recently = line.evaluated_through - SETTLED
        moving = [
            tick.scheduled_for
            for tick in ticks
            if tick.status in OPEN or (tick.status is None and tick.scheduled_for > recently)
        ]
        return moving[-1] - _INSTANT if moving else ticks[0].scheduled_for

    def learn(
        self, schedules: Sequence[ScheduleLine], after: Mapping[int, datetime], new: list[TickLine]
    ) -> dict[int, list[TickLine]]:
        """Put what was read to what is known; returns all, newest first."""
        fresh: dict[int, list[TickLine]] = {line.id: [] for line in schedules}
        for tick in new:
            fresh[tick.schedule_id].append(tick)
        known: dict[int, list[TickLine]] = {}
        for line in schedules:
            kept = self._ticks.get(line.id, NOTHING)[1]
            known[line.id] = _joined(fresh[line.id], kept, after[line.id])[: self.most]
        self._ticks = {line.id: (line.version, known[line.id]) for line in schedules}
        return known

    def forget(self, gaps: Iterable[GapLine]) -> None:
        """Ticks that have become one row since are rows of their own no more."""
        for gap in gaps:
            version, ticks = self._ticks.get(gap.schedule_id, NOTHING)
            if ticks and ticks[-1].scheduled_for <= gap.last_tick:
                left = [
                    tick
                    for tick in ticks
                    if not gap.first_tick <= tick.scheduled_for <= gap.last_tick
                ]
                if len(left) != len(ticks):
                    self._ticks[gap.schedule_id] = (version, [])  # older ones move up: read anew


def _joined(fresh: list[TickLine], kept: list[TickLine], after: datetime) -> list[TickLine]:
    if not fresh and (not kept or kept[0].scheduled_for <= after):
        return kept
    fresh.sort(key=lambda tick: tick.scheduled_for, reverse=True)
    return fresh + [tick for tick in kept if tick.scheduled_for <= after]
