"""Diagnostic queries: Postgres server facts, stuck runs, undeclared schedules."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from app.store.db import Pool

# All facts of the server in one statement: one round trip, of one instant.
FACTS = """
SELECT current_setting('server_version_num')::int AS version,
       current_setting('server_version') AS version_name,
       (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user) AS bypasses,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only')::bool AS read_only,
       current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int AS connections_allowed,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       pg_database_size(current_database()) AS database_bytes,
       (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'idle in transaction'
          AND state_change < now() - interval '1 minute') AS idle_in_transaction,
       clock_timestamp() AS now
"""

# By the index of leases. The minute leaves a sweep the time to queue the run again.
STUCK = """
SELECT count(*) FROM runs
WHERE status = 'running' AND lease_expires_at < clock_timestamp() - interval '1 minute'
"""

# Which of these workers have recorded a heartbeat since then, by the index of ends.
BEATING = """
SELECT DISTINCT worker FROM worker_beats WHERE until >= $2 AND worker = ANY ($1::text[])
"""

# Schedules of organisations are declared by nobody, and are left out.
UNDECLARED = """
SELECT key FROM schedules
WHERE org_id IS NULL AND retired_at IS NULL AND NOT (key = ANY ($1::text[])) ORDER BY key
"""

# By the index of runs that did not succeed. A gap is an error of a partition, by its kind.
GAPS = """
SELECT s.source, e.key AS partition, e.value ->> 'error' AS message
FROM runs r
JOIN run_sources s ON s.execution_id = r.execution_id
CROSS JOIN LATERAL jsonb_each(s.errors) e
WHERE r.org_id IS NULL AND r.status = 'partial_failure'
  AND r.created_at > clock_timestamp() - interval '7 days' AND e.value ->> 'kind' = 'gap'
ORDER BY r.created_at DESC LIMIT 10
"""


async def server_facts(pool: Pool) -> dict[str, Any]:
    """Return version, role, connections, size and time of the server."""
    row = await pool.fetchrow(FACTS)
    return {} if row is None else dict(row)


async def count_stuck_runs(pool: Pool) -> int:
    """Count the runs whose lease expired more than a minute ago and that were not requeued."""
    return await pool.fetchval(STUCK)


async def recent_gaps(pool: Pool) -> list[str]:
    """Return the stretches of the last seven days that were not requested, newest first."""
    rows = await pool.fetch(GAPS)
    return [f"{row['source']}, {row['partition']}: {row['message']}" for row in rows]


async def undeclared_schedules(pool: Pool, declared: Collection[str]) -> list[str]:
    """Return the keys of active built-in schedules that are not among `declared`."""
    return [row["key"] for row in await pool.fetch(UNDECLARED, list(declared))]


async def beating_workers(pool: Pool, workers: Collection[str], since: datetime) -> set[str]:
    """Return those of the workers that have recorded a heartbeat since then."""
    return {row["worker"] for row in await pool.fetch(BEATING, list(workers), since)}
