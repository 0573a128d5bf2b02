"""Statements for the schedules of an organisation's collections and their edits.

Each filters by organisation itself, in addition to row-level security.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class CollectionSchedule:
    """A collection's schedule, its preset, and its last run."""

    id: int
    key: str
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
LOCK = "SELECT id FROM schedules WHERE org_id = $1 AND key = $2 FOR UPDATE"
COUNT = "SELECT count(*) FROM schedules WHERE org_id = $1 AND retired_at IS NULL"
LOOK = """
SELECT s.id, s.key, s.preset_id, p.name, s.spec, s.policies, s.policy_choices, s.enabled, s.notify,
       s.revision, s.retired_at, s.paused_at, s.paused_by, s.paused_note, s.next_tick_at,
       s.zone_data, last.at, last.status
FROM schedules s
LEFT JOIN collection_presets p ON p.id = s.preset_id
LEFT JOIN LATERAL (
  SELECT coalesce(r.started_at, r.queued_at) AS at, r.status FROM runs r
  WHERE r.schedule_id = s.id ORDER BY r.created_at DESC, r.execution_id LIMIT 1
) last ON true
WHERE s.org_id = $1 AND ($2::text IS NULL OR s.key = $2)
ORDER BY s.key
"""
KEYS = "SELECT key FROM schedules WHERE org_id = $1 ORDER BY key"
SET_CHOICES = "UPDATE schedules SET policy_choices = $3 WHERE org_id = $1 AND key = $2"
SET_PRESET = "UPDATE schedules SET preset_id = $3, notify = $4 WHERE org_id = $1 AND key = $2"
RECORD_EDIT = """
WITH updated AS (
  UPDATE schedules SET revision = $8 WHERE org_id = $1 AND key = $2 RETURNING id
)
INSERT INTO schedule_edits (schedule_id, org_id, at, by, action, before, after)
SELECT id, $1, $3, $4, $5, $6, $7 FROM updated
"""


async def lock_org(connection: Connection, org_id: UUID) -> dict[str, Any]:
    """Lock the organisation against other edits until the transaction ends; returns its limits."""
    return await connection.fetchval(LOCK_ORG, org_id) or {}


async def limits(connection: Connection, org_id: UUID) -> dict[str, Any]:
    """Return the organisation's overrides of the limits in the settings."""
    return await connection.fetchval(LIMITS, org_id) or {}


async def lock_schedule(
    connection: Connection, org_id: UUID, key: str
) -> CollectionSchedule | None:
    """Return a collection's schedule under its row lock, so that no tick of it is decided."""
    await connection.execute(LOCK, org_id, key)
    return await read_schedule(connection, org_id, key)


async def read_schedule(
    connection: Connection, org_id: UUID, key: str
) -> CollectionSchedule | None:
    """Return a collection's schedule, retired or not."""
    schedules = await _read(connection, org_id, key)
    return schedules[0] if schedules else None


async def read_schedules(connection: Connection, org_id: UUID) -> list[CollectionSchedule]:
    """Return the schedules of all collections of the organisation, retired ones too, by key."""
    return await _read(connection, org_id, None)


async def _read(connection: Connection, org_id: UUID, key: str | None) -> list[CollectionSchedule]:
    schedules = [CollectionSchedule(*row) for row in await connection.fetch(LOOK, org_id, key)]
    await zones.ensure(connection, [(one.spec, one.zone_data) for one in schedules])
    return schedules


async def count(connection: Connection, org_id: UUID) -> int:
    """Return how many collections the organisation has that are not retired."""
    return await connection.fetchval(COUNT, org_id)


async def keys(connection: Connection | Pool, org_id: UUID) -> list[str]:
    """Return the keys of the organisation's schedules."""
    return [row["key"] for row in await connection.fetch(KEYS, org_id)]


async def set_preset(
    connection: Connection, of: tuple[UUID, str], preset_id: UUID | None, *, notify: bool
) -> None:
    """Set the preset to collect, and whether the collection sends notifications.

    `of`: organisation and key of the schedule, here and below.
    """
    await connection.execute(SET_PRESET, *of, preset_id, notify)


async def set_choices(
    connection: Connection, of: tuple[UUID, str], choices: dict[str, Any]
) -> None:
    """Set the policies that the organisation chose for a collection."""
    await connection.execute(SET_CHOICES, *of, choices)


async def record_edit(
    connection: Connection, of: tuple[UUID, str], edit: CollectionEdit, revision: int
) -> None:
    """Record an edit and set the schedule's revision."""
    await connection.execute(
        RECORD_EDIT, *of, edit.at, edit.by, edit.action, edit.before, edit.after, revision
    )
