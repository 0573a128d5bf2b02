"""Statements that record actions of dashboard users on schedules and runs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool

# Always of attempt 1: a request precedes every attempt.
RECORD_REQUEST = """
INSERT INTO run_events (execution_id, at, event, attempt, detail)
VALUES ($1, $2, 'requested', 1, $3)
"""
# The owner is copied from the schedule in the same statement: row-level security filters by it.
RECORD_EDIT = """
INSERT INTO schedule_edits (schedule_id, org_id, at, by, action, before, after)
SELECT id, org_id, $2, $3, $4, $5, $6 FROM schedules WHERE key = $1
"""
# Two edits of one instant are told apart by their ids, so that the order is total.
EDITS = """
SELECT e.at, e.by, e.action, e.before, e.after
FROM schedule_edits e JOIN schedules s ON s.id = e.schedule_id
WHERE s.key = $1 ORDER BY e.at DESC, e.id DESC LIMIT $2
"""


async def record_request(
    connection: Pool | Connection, run_id: UUID, now: datetime, by: str
) -> None:
    """Record who requested a run, as an event of the run."""
    await connection.execute(RECORD_REQUEST, run_id, now, f"by {by}")


async def record_edit(
    connection: Pool | Connection,
    key: str,
    now: datetime,
    by: str,
    change: tuple[str, dict[str, Any] | None, dict[str, Any] | None],
) -> None:
    """Record an edit of a schedule. `change`: action, state before, state after."""
    action, before, after = change
    await connection.execute(RECORD_EDIT, key, now, by, action, before, after)


async def edits(connection: Pool | Connection, key: str, limit: int) -> list[dict[str, Any]]:
    """Return the edits of a schedule, newest first, as plain rows."""
    return [dict(row) for row in await connection.fetch(EDITS, key, limit)]
