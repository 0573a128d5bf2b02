"""Every statement about an organisation's collection. Within its own transaction, but also said."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection


@dataclass(frozen=True, slots=True)
class Standing:
    """An organisation's schedule as it stands: what it chose, and what ran last."""

    id: int
    preset_id: UUID | None
    preset_name: str | None
    spec: dict[str, Any]
    enabled: bool
    notify: bool
    revision: int
    retired_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    next_tick_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """Who changed what, when, and into what."""

    at: datetime
    by: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


# One edit of an organisation at a time. Not FOR UPDATE: rows that refer to it may still be written.
HOLD = "SELECT limits FROM organizations WHERE id = $1 FOR NO KEY UPDATE"
LIMITS = "SELECT limits FROM organizations WHERE id = $1"
LOCK = "SELECT id FROM schedules WHERE org_id = $1 FOR UPDATE"
LOOK = """
SELECT s.id, s.preset_id, p.name, s.spec, s.enabled, s.notify, s.revision, s.retired_at,
       s.paused_at, s.paused_by, s.paused_note, s.next_tick_at, last.at, last.status
FROM schedules s
LEFT JOIN collection_presets p ON p.id = s.preset_id
LEFT JOIN LATERAL (
  SELECT coalesce(r.started_at, r.queued_at) AS at, r.status FROM runs r
  WHERE r.org_id = s.org_id ORDER BY r.created_at DESC, r.execution_id LIMIT 1
) last ON true
WHERE s.org_id = $1
"""
CHOOSE = "UPDATE schedules SET preset_id = $2, notify = $3 WHERE org_id = $1"
NOTE = """
WITH grown AS (
  UPDATE schedules SET revision = $7 WHERE org_id = $1 RETURNING id
)
INSERT INTO schedule_edits (schedule_id, org_id, at, by, action, before, after)
SELECT id, $1, $2, $3, $4, $5, $6 FROM grown
"""


async def hold(connection: Connection, org_id: UUID) -> dict[str, Any]:
    """Let nobody else edit this organisation until the transaction ends; returns its limits."""
    return await connection.fetchval(HOLD, org_id) or {}


async def limits(connection: Connection, org_id: UUID) -> dict[str, Any]:
    """The limits that are the organisation's own."""
    return await connection.fetchval(LIMITS, org_id) or {}


async def lock(connection: Connection, org_id: UUID) -> Standing | None:
    """The organisation's schedule under its row lock: nothing is decided of it meanwhile."""
    await connection.execute(LOCK, org_id)
    return await look(connection, org_id)


async def look(connection: Connection, org_id: UUID) -> Standing | None:
    """The organisation's schedule, retired or not."""
    row = await connection.fetchrow(LOOK, org_id)
    return None if row is None else Standing(*row)


async def choose(
    connection: Connection, org_id: UUID, preset_id: UUID | None, *, notify: bool
) -> None:
    """Set what is collected, and whether its ends are told."""
    await connection.execute(CHOOSE, org_id, preset_id, notify)


async def note(connection: Connection, org_id: UUID, edit: Edit, revision: int) -> None:
    """Write an edit down; the schedule has `revision` from now on."""
    await connection.execute(
        NOTE, org_id, edit.at, edit.by, edit.action, edit.before, edit.after, revision
    )
