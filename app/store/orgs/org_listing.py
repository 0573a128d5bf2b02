"""Keyset-paginated reads of the API: an organisation's items and schedule edits.

Newest first. A page starts after the last row of the previous one, so new rows do not shift it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import tuple_
from sqlmodel import col, select

from app.models.orgs import ItemRow, ScheduleEditRow
from app.models.schedules import ScheduleRow
from app.store import select as selects
from app.store.db import Connection

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OrgItemFilter:
    """Filter of items: by source, by time of change, and whether they are missing."""

    source: str | None = None
    changed_since: datetime | None = None
    missing: bool | None = None


async def items(
    connection: Connection,
    org_id: UUID,
    limit: int,
    after: tuple[datetime, int] | None,
    filters: OrgItemFilter,
) -> list[Row]:
    """Return items, last changed first. `after`: (changed_at, id) of the previous page's last."""
    statement = select(ItemRow).where(ItemRow.org_id == org_id)
    if filters.source is not None:
        statement = statement.where(ItemRow.source == filters.source)
    if filters.changed_since is not None:
        statement = statement.where(col(ItemRow.changed_at) >= filters.changed_since)
    if filters.missing is not None:
        missing = col(ItemRow.missing_since)
        statement = statement.where(missing.is_not(None) if filters.missing else missing.is_(None))
    if after is not None:
        statement = statement.where(tuple_(ItemRow.changed_at, ItemRow.id) < tuple_(*after))
    order = (col(ItemRow.changed_at).desc(), col(ItemRow.id).desc())
    return await selects.fetch(connection, statement.order_by(*order).limit(limit))


async def edits(
    connection: Connection, of: tuple[UUID, str], limit: int, after: int | None
) -> list[Row]:
    """Return edits of the schedule with this owner and key, newest first.

    `after`: id of the previous page's last edit.
    """
    statement = (
        select(ScheduleEditRow)
        .join(ScheduleRow, col(ScheduleRow.id) == col(ScheduleEditRow.schedule_id))
        .where(ScheduleRow.org_id == of[0], ScheduleRow.key == of[1])
    )
    if after is not None:
        statement = statement.where(col(ScheduleEditRow.id) < after)
    newest = statement.order_by(col(ScheduleEditRow.id).desc()).limit(limit)
    return await selects.fetch(connection, newest)
