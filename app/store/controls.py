"""What people do to a schedule from the page, written down with who did it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool

# `requested` stands among the run's events, beside what became of it.
ASKED = """
INSERT INTO run_events (execution_id, at, event, attempt, detail)
VALUES ($1, $2, 'requested', 1, $3)
"""
EDIT = """
INSERT INTO schedule_edits (schedule_id, org_id, at, by, action, before, after)
SELECT id, org_id, $2, $3, $4, $5, $6 FROM schedules WHERE key = $1
"""
EDITS = """
SELECT e.at, e.by, e.action, e.before, e.after
FROM schedule_edits e JOIN schedules s ON s.id = e.schedule_id
WHERE s.key = $1 ORDER BY e.at DESC, e.id DESC LIMIT $2
"""


async def asked(connection: Pool | Connection, run_id: UUID, now: datetime, by: str) -> None:
    """Note who asked for a run."""
    await connection.execute(ASKED, run_id, now, f"by {by}")


async def note(
    connection: Pool | Connection,
    key: str,
    now: datetime,
    by: str,
    change: tuple[str, dict[str, Any] | None, dict[str, Any] | None],
) -> None:
    """Note who did what to a schedule: the action, and what was before and after it."""
    action, before, after = change
    await connection.execute(EDIT, key, now, by, action, before, after)


async def edits(connection: Pool | Connection, key: str, limit: int) -> list[dict[str, Any]]:
    """What was done to a schedule, newest first, as plain rows."""
    return [dict(row) for row in await connection.fetch(EDITS, key, limit)]
