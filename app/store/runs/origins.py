"""Where stored rows come from: the runs that wrote them, and the ticks of those runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool

# The owner is checked here too: a row may name a run of the operator, which is left out.
ORIGINS = """
SELECT r.execution_id, r.status, coalesce(r.started_at, r.queued_at) AS at, s.key,
       CASE WHEN r.trigger = 'scheduled' THEN r.scheduled_for END AS tick
FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.execution_id = ANY ($1::uuid[]) AND ($2::uuid IS NULL OR r.org_id = $2)
"""

# The newest ticks of the schedules that collect a source, with what their runs brought of it.
# Organisations' schedules are found by owner, the operator's by name.
SOURCE_TICKS = """
SELECT s.key, t.scheduled_for, t.until, t.count, t.outcome, t.reason, t.run_id,
       r.status AS run_status, r.error_type, x.status, x.pages, x.records, x.inserted, x.changed,
       x.rejected, x.partitions_failed, x.error_kind, x.error_message
FROM (SELECT id, key FROM schedules WHERE $5::uuid IS NULL AND key = ANY ($1::text[])
      UNION ALL
      SELECT id, key FROM schedules WHERE org_id = $5) s
CROSS JOIN LATERAL (
  (SELECT scheduled_for, scheduled_for AS until, 1 AS count, outcome, reason, run_id FROM ticks
   WHERE schedule_id = s.id AND scheduled_for <= $3 AND (scheduled_for < $3 OR s.key > $6)
   ORDER BY scheduled_for DESC LIMIT $4)
  UNION ALL
  (SELECT first_tick, last_tick, count, outcome, reason, NULL FROM tick_gaps
   WHERE schedule_id = s.id AND first_tick <= $3 AND (first_tick < $3 OR s.key > $6)
   ORDER BY first_tick DESC LIMIT $4)) t
LEFT JOIN runs r ON r.execution_id = t.run_id
LEFT JOIN run_sources x ON x.execution_id = t.run_id AND x.source = $2
ORDER BY t.scheduled_for DESC, s.key LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class RunOrigin:
    """A run that wrote a row. `at`: when it started; `job` and `tick`: of its schedule, if any."""

    run_id: UUID
    status: str
    at: datetime
    job: str | None
    tick: datetime | None


async def origins(
    connection: Pool | Connection, run_ids: Iterable[UUID | None], org_id: UUID | None
) -> dict[UUID, RunOrigin]:
    """Return the runs that still exist, by id: of this organisation, or with None of anyone."""
    wanted = list({run_id for run_id in run_ids if run_id is not None})
    rows = await connection.fetch(ORIGINS, wanted, org_id)
    return {row[0]: RunOrigin(*row) for row in rows}


async def source_ticks(
    connection: Pool | Connection,
    source: str,
    schedules: Sequence[str],
    after: tuple[datetime, str],
    limit: int,
    org_id: UUID | None,
) -> list[dict[str, Any]]:
    """Return the newest ticks of the schedules that collect the source.

    `schedules`: their names, if the source is the operator's (`org_id` None). `after`:
    (scheduled_for, key) of the last row of the previous page. `pages` and the other counts are None
    if the tick has no run, or its run did not collect the source.
    """
    at, key = after
    rows = await connection.fetch(SOURCE_TICKS, list(schedules), source, at, limit, org_id, key)
    return [dict(row) for row in rows]
