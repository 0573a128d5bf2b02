"""The rows of schedules as this process left them, so that it need not read them again."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.store.db import Pool
from app.store.schedules import schedule_rows
from app.store.schedules.decisions import TickDecision
from app.store.schedules.schedule_rows import ScheduleState


@dataclass(slots=True)
class RememberedRows:
    """Rows by key, each with the stamp that any change gives another value."""

    _rows: dict[str, ScheduleState] = field(default_factory=dict[str, ScheduleState])

    async def read(self, pool: Pool, keys: Sequence[str]) -> None:
        """Remember the rows of these schedules as they are."""
        self._rows |= {state.key: state for state in await schedule_rows.stamped(pool, keys)}

    def get(self, key: str) -> ScheduleState | None:
        """Return the row as it was left last; it may have changed since. None if it is unknown."""
        return self._rows.get(key)

    def forget(self, key: str) -> None:
        """Forget a row that has changed."""
        self._rows.pop(key, None)

    def decided(self, decision: TickDecision, stamp: str | None) -> None:
        """Remember the row as a decision, which is committed, has left it."""
        self._rows[decision.state.key] = replace(
            decision.state,
            evaluated_through=decision.frontier,
            next_tick_at=decision.next_tick_at,
            due_at=decision.due_at,
            stamp=stamp,
        )
