"""Statements for an organisation's collection schedule and its edits.

Each filters by organisation itself, in addition to row-level security.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class CollectionSchedule:
    """An organisation's schedule, its preset, and its last run."""

    id: int
    preset_id: UUID | None
    preset_name: str | None
    spec: dict[str, Any]
    policies: dict[str, Any]
    policy_choices: dict[str, Any]
    enabled: bool
    notify: bool
    revision: int
    retired_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    next_tick_at: datetime | None
    zone_data: str | None
    last_run_at: datetime | None
    last_status: str | None


@dataclass(frozen=True, slots=True)
class CollectionEdit:
    """One edit of the schedule: when, by whom, and its state before and after."""

    at: datetime
    by: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


# One edit of an organisation at a time. Not FOR UPDATE: rows that refer to it may still be written.
LOCK_ORG = "SELECT limits FROM organizations WHERE id = $1 FOR NO KEY UPDATE"
LIMITS = "SELECT limits FROM organizations WHERE id = $1"
LOCK = "SELECT id FROM schedules WHERE org_id = $1 FOR UPDATE"
LOOK = """
SELECT s.id, s.preset_id, p.name, s.spec, s.policies, s.policy_choices, s.enabled, s.notify,
       s.revision, s.retired_at, s.paused_at, s.paused_by, s.paused_note, s.next_tick_at,
       s.zone_data, last.at, last.status
FROM schedules s
LEFT JOIN collection_presets p ON p.id = s.preset_id
LEFT JOIN LATERAL (
  SELECT coalesce(r.started_at, r.queued_at) AS at, r.status FROM runs r
  WHERE r.org_id = s.org_id ORDER BY r.created_at DESC, r.execution_id LIMIT 1
) last ON true
WHERE s.org_id = $1
"""
SET_CHOICES = "UPDATE schedules SET policy_choices = $2 WHERE org_id = $1"
SET_PRESET = "UPDATE schedules SET preset_id = $2, notify = $3 WHERE org_id = $1"
RECORD_EDIT = """
WITH updated AS (
  UPDATE schedules SET revision = $7 WHERE org_id = $1 RETURNING id
)
INSERT INTO schedule_edits (schedule_id, org_id, at, by, action, before, after)
SELECT id, $1, $2, $3, $4, $5, $6 FROM updated
"""


async def lock_org(connection: Connection, org_id: UUID) -> dict[str, Any]:
    """Lock the organisation against other edits until the transaction ends; returns its limits."""
    return await connection.fetchval(LOCK_ORG, org_id) or {}


async def limits(connection: Connection, org_id: UUID) -> dict[str, Any]:
    """Return the organisation's overrides of the limits in the settings."""
    return await connection.fetchval(LIMITS, org_id) or {}


async def lock_schedule(connection: Connection, org_id: UUID) -> CollectionSchedule | None:
    """Return the organisation's schedule under its row lock, so that no tick of it is decided."""
    await connection.execute(LOCK, org_id)
    return await read_schedule(connection, org_id)


async def read_schedule(connection: Connection, org_id: UUID) -> CollectionSchedule | None:
    """Return the organisation's schedule, retired or not."""
    row = await connection.fetchrow(LOOK, org_id)
    if row is None:
        return None
    schedule = CollectionSchedule(*row)
    await zones.ensure(connection, [(schedule.spec, schedule.zone_data)])
    return schedule


async def set_preset(
    connection: Connection, org_id: UUID, preset_id: UUID | None, *, notify: bool
) -> None:
    """Set the preset to collect, and whether the collection sends notifications."""
    await connection.execute(SET_PRESET, org_id, preset_id, notify)


async def set_choices(connection: Connection, org_id: UUID, choices: dict[str, Any]) -> None:
    """Set the policies that the organisation chose for its collection."""
    await connection.execute(SET_CHOICES, org_id, choices)


async def record_edit(
    connection: Connection, org_id: UUID, edit: CollectionEdit, revision: int
) -> None:
    """Record an edit and set the schedule's revision."""
    await connection.execute(
        RECORD_EDIT, org_id, edit.at, edit.by, edit.action, edit.before, edit.after, revision
    )
