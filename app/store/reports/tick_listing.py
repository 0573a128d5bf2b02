"""Reads of ticks for people: the decided ticks and gaps of one schedule, with filters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Uuid, cast, literal, null, union_all
from sqlmodel import col, select

from app.models import ScheduleRow, TickGapRow, TickRow
from app.store import select as selects
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class TickFilter:
    """Filter of ticks; None matches any. `since`, `until`: at or after, and before."""

    since: datetime | None = None
    until: datetime | None = None
    outcome: str | None = None
    reason: str | None = None


async def ticks(
    connection: Pool | Connection, job: str, filters: TickFilter, limit: int
) -> list[dict[str, Any]]:
    """Return the matching ticks of the schedule, newest first.

    A gap, which is consecutive ticks with the same outcome, is one row: `scheduled_for` is its
    first tick, `until` its last one, and `count` their number.
    """
    no_run = cast(null(), Uuid).label("run_id")
    tick: Any = col(TickRow.scheduled_for)
    first_tick: Any = col(TickGapRow.first_tick)
    last_tick: Any = col(TickGapRow.last_tick)
    single: Any = select(
        tick,
        tick.label("until"),
        literal(1).label("count"),
        TickRow.outcome,
    ).add_columns(col(TickRow.reason), col(TickRow.run_id), col(TickRow.decided_at))
    gaps: Any = select(
        first_tick.label("scheduled_for"),
        last_tick.label("until"),
        TickGapRow.count,
        TickGapRow.outcome,
    ).add_columns(col(TickGapRow.reason), no_run, col(TickGapRow.decided_at))
    parts = (
        (single, TickRow, tick, tick),
        (gaps, TickGapRow, first_tick, last_tick),
    )
    matching = [
        statement.join(ScheduleRow, col(ScheduleRow.id) == col(model.schedule_id))
        .where(ScheduleRow.key == job, *_conditions(model, first, last, filters))
        .order_by(first.desc())
        .limit(limit)
        .subquery()
        for statement, model, first, last in parts
    ]
    both: Any = union_all(*(part.select() for part in matching)).subquery()
    newest = both.select().order_by(both.c.scheduled_for.desc()).limit(limit)
    return await selects.fetch(connection, newest)


async def exists(connection: Pool | Connection, job: str) -> bool:
    """Return whether there is a schedule of that name."""
    statement = select(ScheduleRow.org_id).where(ScheduleRow.key == job)
    return bool(await selects.fetch(connection, statement))


def _conditions(model: Any, first: Any, last: Any, filters: TickFilter) -> list[Any]:
    conditions: list[Any] = []
    if filters.since is not None:
        conditions.append(last >= filters.since)
    if filters.until is not None:
        conditions.append(first < filters.until)
    if filters.outcome is not None:
        conditions.append(model.outcome == filters.outcome)
    if filters.reason is not None:
        conditions.append(model.reason == filters.reason)
    return conditions
