"""Reads of the audit log for people: what was done, to what, and why."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, and_, cast, func, literal, null, or_, union_all
from sqlmodel import col, select

from app.models.audit import AuditRow
from app.models.orgs import ScheduleEditRow
from app.models.schedules import ScheduleRow
from app.store import select as selects
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Filter of acts; None matches any. `org_id`: on what this organisation owns.

    `after`: (at, part, id) of the last row of the previous page.
    """

    org_id: UUID | None = None
    job: str | None = None
    by: str | None = None
    after: tuple[datetime, int, int] | None = None


async def entries(
    connection: Pool | Connection, filters: AuditFilter, limit: int
) -> list[dict[str, Any]]:
    """Return the matching acts, newest first: of the log, and edits of schedules.

    An edit has its settings before and after in `detail`, and the reason of a pause in `reason`.
    """
    after: Any = col(ScheduleEditRow.after)
    before: Any = col(ScheduleEditRow.before)
    acts: Any = select(AuditRow.at, literal(0).label("part"), AuditRow.id, AuditRow.by).add_columns(
        col(AuditRow.action),
        col(AuditRow.job),
        col(AuditRow.execution_id),
        col(AuditRow.reason),
        col(AuditRow.detail),
    )
    edits: Any = select(
        ScheduleEditRow.at, literal(1).label("part"), ScheduleEditRow.id, ScheduleEditRow.by
    ).add_columns(
        col(ScheduleEditRow.action),
        col(ScheduleRow.key).label("job"),
        cast(null(), Uuid).label("execution_id"),
        after["note"].astext.label("reason"),
        func.jsonb_build_object("before", before, "after", after).label("detail"),
    )
    edits = edits.join(ScheduleRow, col(ScheduleRow.id) == col(ScheduleEditRow.schedule_id))
    newest = [
        statement.where(*_conditions(model, job, filters), *_later_pages(model, part, filters))
        .order_by(col(model.at).desc(), col(model.id).desc())
        .limit(limit)
        .subquery()
        for part, (statement, model, job) in enumerate(
            ((acts, AuditRow, AuditRow.job), (edits, ScheduleEditRow, ScheduleRow.key))
        )
    ]
    both: Any = union_all(*(part.select() for part in newest)).subquery()
    order = (both.c.at.desc(), both.c.part, both.c.id.desc())
    return await selects.fetch(connection, both.select().order_by(*order).limit(limit))


def _conditions(model: Any, job: Any, filters: AuditFilter) -> list[Any]:
    conditions: list[Any] = []
    if filters.org_id is not None:
        conditions.append(col(model.org_id) == filters.org_id)
    if filters.job is not None:
        conditions.append(job == filters.job)
    if filters.by is not None:
        conditions.append(col(model.by) == filters.by)
    return conditions


def _later_pages(model: Any, part: int, filters: AuditFilter) -> list[Any]:
    if filters.after is None:
        return []
    at, last_part, last_id = filters.after
    if part == last_part:
        return [or_(col(model.at) < at, and_(col(model.at) == at, col(model.id) < last_id))]
    return [col(model.at) <= at if part > last_part else col(model.at) < at]
