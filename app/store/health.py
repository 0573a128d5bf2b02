"""What health wants to know of the built-in jobs, in one statement."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.db import Pool


@dataclass(frozen=True, slots=True)
class JobRow:
    """A schedule and what its last runs left behind."""

    key: str
    job: str
    spec: dict[str, Any]
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    next_tick_at: datetime | None
    registered_at: datetime
    last_run: datetime | None
    last_status: str | None
    last_error: str | None
    last_success: datetime | None
    consecutive_failures: int
    running_since: datetime | None


FACTS = """
SELECT s.key, s.job, s.spec, s.enabled, s.paused_at, s.paused_by, s.paused_note, s.next_tick_at,
       s.created_at, l.completed_at, l.status, l.error_message, g.completed_at,
       coalesce(f.failures, 0), o.started_at
FROM schedules s
LEFT JOIN LATERAL (
  SELECT completed_at, status, error_message FROM runs r
  WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
  ORDER BY r.created_at DESC LIMIT 1) l ON true
LEFT JOIN LATERAL (
  SELECT completed_at FROM runs r WHERE r.schedule_id = s.id AND r.status = 'success'
  ORDER BY r.created_at DESC LIMIT 1) g ON true
LEFT JOIN LATERAL (
  SELECT count(*) FILTER (WHERE streak = 0) AS failures FROM (
    SELECT sum((status NOT IN ('failure', 'timed_out', 'lost'))::int)
             OVER (ORDER BY created_at DESC) AS streak
    FROM (SELECT status, created_at FROM runs r
          WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
          ORDER BY r.created_at DESC LIMIT 20) AS newest) AS counted) f ON true
LEFT JOIN LATERAL (
  SELECT started_at FROM runs r WHERE r.schedule_id = s.id AND r.status = 'running'
  ORDER BY r.created_at LIMIT 1) o ON true
WHERE s.org_id IS NULL AND ($1::text IS NULL OR s.key = $1)
ORDER BY s.key
"""


async def facts(pool: Pool, key: str | None = None) -> list[JobRow]:
    """Every built-in schedule, or the one of that key."""
    return [JobRow(*row) for row in await pool.fetch(FACTS, key)]
