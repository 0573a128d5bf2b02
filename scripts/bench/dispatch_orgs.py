"""The organisations of the dispatch benchmark: inserted in bulk and made due at once."""

import json
from datetime import UTC, datetime, timedelta
from itertools import product

from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection

ZONES = ("UTC", "Africa/Lagos", "Asia/Tokyo", "Etc/GMT+5", "Etc/GMT-3")
INSERT = """
WITH orgs AS (
  INSERT INTO organizations (id, name)
  SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'org ' || n
  FROM generate_series(1, $1::int) AS n RETURNING id
), numbered AS (SELECT id, (row_number() OVER () - 1)::int AS n FROM orgs
), fresh AS (
  INSERT INTO schedules (key, job, org_id, spec, policies, params, effective_from,
                         evaluated_through, next_tick_at, due_at, enabled, version)
  SELECT 'collection:' || id, 'collection', id, ($2::jsonb[])[1 + n % cardinality($2::jsonb[])],
         $3::jsonb, '{}', $4, $4, $5, $6, true, 1
  FROM numbered RETURNING id, spec, policies, effective_from
)
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM fresh
"""


def specs(tick: datetime) -> list[str]:
    """Return cron specs in several zones that match this minute and none in the next hour."""
    minute = tick.minute
    expressions = (
        f"{minute} * * * *",
        f"{minute} */1 * * *",
        f"{minute} 0-23 * * *",
        f"{minute} * * * 0-6",
        f"{minute} * 1-31 * *",
        f"{minute} 0-11,12-23 * * *",
    )
    both = product(expressions, ZONES)
    return [json.dumps(Schedule.cron(text, zone).to_spec()) for text, zone in both]


async def found(connection: Connection, count: int) -> datetime:
    """Insert `count` organisations with an enabled schedule, not yet due; returns their tick.

    The tick is the last whole minute; `fall_due` sets `due_at`, as jitter would.
    """
    tick = datetime.now(UTC).replace(second=0, microsecond=0)
    policies = Policies(misfire_grace=timedelta(hours=1), timeout=900)
    await connection.execute(
        INSERT,
        count,
        specs(tick),
        json.dumps(policies.to_spec()),
        tick - timedelta(minutes=1),
        tick,
        tick + timedelta(days=1),
    )
    await connection.execute("VACUUM ANALYZE schedules")
    await connection.execute("ANALYZE organizations")
    return tick


async def fall_due(connection: Connection, at: datetime) -> None:
    """Make all schedules of organisations due at that instant, while statistics say no run is open.

    Autovacuum may have found it so, and does not come again within the dispatch.
    """
    await connection.execute("UPDATE schedules SET due_at = $1 WHERE org_id IS NOT NULL", at)
    await connection.execute("VACUUM ANALYZE schedules")
    await connection.execute("ANALYZE runs")
