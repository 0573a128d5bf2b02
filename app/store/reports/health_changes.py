"""Queries for what may have changed a job's health since it was published."""

from app.store.db import Pool

# The stamp of each job, as the facts have it. Cheap beside them: a schedule's row changes with
# each decision, edit and pause.
STAMPS = """
SELECT s.key, concat(s.xmin, ' ', h.ill_since)
FROM schedules s LEFT JOIN health_states h ON h.key = s.key AND h.ill
WHERE s.org_id IS NULL AND s.retired_at IS NULL
"""
# What happened to runs since is read from here.
LAST_EVENT = "SELECT coalesce(max(id), 0) FROM run_events"

# Jobs whose runs began, ended or were queued again. A worker publishes the ends of its own runs.
MOVED = """
SELECT DISTINCT s.key
FROM run_events e
JOIN runs r ON r.execution_id = e.execution_id
JOIN schedules s ON s.id = r.schedule_id AND s.org_id IS NULL
WHERE e.id > $1 AND (e.worker IS DISTINCT FROM $2 OR r.completed_at IS NULL)
"""


async def stamps(pool: Pool) -> dict[str, str]:
    """Return the stamp of every built-in schedule, by key."""
    return {row[0]: row[1] for row in await pool.fetch(STAMPS)}


async def last_event(pool: Pool) -> int:
    """Return the id of the newest event of a run; 0 if there is none."""
    return await pool.fetchval(LAST_EVENT)


async def moved_since(pool: Pool, event: int, worker: str) -> list[str]:
    """Return the keys of jobs with later events, except the ends of this worker's own runs."""
    return [row[0] for row in await pool.fetch(MOVED, event, worker)]
