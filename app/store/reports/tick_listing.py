"""Reads of ticks for people: the decided ticks and gaps of schedules, with filters and paging."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, and_, cast, literal, literal_column, null, or_, union_all
from sqlmodel import col, select

from app.core.enums import TickOutcome
from app.models.schedules import ScheduleRow, TickGapRow, TickRow
from app.store import select as selects
from app.store.db import Connection, Pool, begun_with


@dataclass(frozen=True, slots=True)
class TickFilter:
    """Filter of ticks; None matches any. `since`, `until`: at or after, and before.

    `not_run`: only ticks that did not run. `after`: (scheduled_for, schedule id) of the last row of
    the previous page.
    """

    since: datetime | None = None
    until: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    not_run: bool = False
    after: tuple[datetime, int] | None = None


@dataclass(frozen=True, slots=True)
class UnservedTicks:
    """Ticks that did not run for the same reason: `count` of them, from `first` to `last`.

    Of one gap, or of one day (UTC).
    """

    outcome: str
    reason: str
    first: datetime
    last: datetime
    count: int


# Which days had ticks that did not run. The index has no others, and all that is read of them;
# `date_bin` costs half of `date_trunc`.
BY_DAY = """
SELECT outcome, reason, min(scheduled_for), max(scheduled_for), count(*)
FROM ticks
WHERE schedule_id = ANY ($1::bigint[]) AND scheduled_for >= $2 AND scheduled_for < $3
  AND outcome <> 'ran' AND ($4::text IS NULL OR outcome = $4) AND ($5::text IS NULL OR reason = $5)
GROUP BY outcome, reason, date_bin('1 day', scheduled_for, 'epoch'::timestamptz)
UNION ALL
SELECT outcome, reason, first_tick, last_tick, count
FROM tick_gaps
WHERE schedule_id = ANY ($1::bigint[]) AND last_tick >= $2 AND first_tick < $3
  AND ($4::text IS NULL OR outcome = $4) AND ($5::text IS NULL OR reason = $5)
"""


async def ticks(
    connection: Pool | Connection, jobs: Mapping[int, str], filters: TickFilter, limit: int
) -> list[dict[str, Any]]:
    """Return the matching ticks of these schedules (id and name), newest first.

    A gap, which is consecutive ticks with the same outcome, is one row: `scheduled_for` is its
    first tick, `until` its last one, and `count` their number.
    """
    no_run = cast(null(), Uuid).label("run_id")
    tick: Any = col(TickRow.scheduled_for)
    first_tick: Any = col(TickGapRow.first_tick)
    last_tick: Any = col(TickGapRow.last_tick)
    single: Any = select(
        TickRow.schedule_id, tick, tick.label("until"), literal(1).label("count")
    ).add_columns(
        col(TickRow.outcome), col(TickRow.reason), col(TickRow.run_id), col(TickRow.decided_at)
    )
    gaps: Any = select(
        TickGapRow.schedule_id,
        first_tick.label("scheduled_for"),
        last_tick.label("until"),
        TickGapRow.count,
    ).add_columns(
        col(TickGapRow.outcome), col(TickGapRow.reason), no_run, col(TickGapRow.decided_at)
    )
    parts = ((single, TickRow, tick, tick), (gaps, TickGapRow, first_tick, last_tick))
    matching = [
        statement.where(
            col(model.schedule_id).in_(list(jobs)), *_conditions(model, first, last, filters)
        )
        .order_by(first.desc(), col(model.schedule_id).desc())
        .limit(limit)
        .subquery()
        for statement, model, first, last in parts
    ]
    both: Any = union_all(*(part.select() for part in matching)).subquery()
    newest = (
        both.select().order_by(both.c.scheduled_for.desc(), both.c.schedule_id.desc()).limit(limit)
    )
    rows = await selects.fetch(connection, newest)
    return [{"job": jobs[row["schedule_id"]]} | row for row in rows]


async def jobs(
    connection: Pool | Connection, *, job: str | None = None, org_id: UUID | None = None
) -> dict[int, str]:
    """Return id and name of the organisation's schedules, or of the operator's, by name.

    With `job`, of that schedule, whose ever it is if there is no `org_id`.
    """
    statement: Any = select(ScheduleRow.id, ScheduleRow.key).order_by(ScheduleRow.key)
    if job is not None:
        statement = statement.where(ScheduleRow.key == job)
    if org_id is not None:
        statement = statement.where(ScheduleRow.org_id == org_id)
    elif job is None:
        statement = statement.where(col(ScheduleRow.org_id).is_(None))
    return {row["id"]: row["key"] for row in await selects.fetch(connection, statement)}


async def not_run_by_day(
    connection: Connection, jobs: Mapping[int, str], filters: TickFilter
) -> list[UnservedTicks]:
    """Return the ticks of these schedules that did not run, by day, outcome and reason.

    A gap is one row, also if it is longer than a day. Needs `since` and `until`.
    """
    # A plan for any filter sorts all ticks, which takes twice as long as one for this filter.
    async with begun_with(connection, "SET LOCAL plan_cache_mode = force_custom_plan"):
        rows = await connection.fetch(
            BY_DAY, list(jobs), filters.since, filters.until, filters.outcome, filters.reason
        )
    return [UnservedTicks(*row) for row in rows]


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
    if filters.not_run or filters.outcome not in {None, TickOutcome.RAN}:
        conditions.append(model.outcome != literal_column("'ran'"))  # as its partial index says
    if filters.after is not None:
        at, schedule_id = filters.after
        same = and_(first == at, col(model.schedule_id) < schedule_id)
        conditions.append(or_(first < at, same))
    return conditions
