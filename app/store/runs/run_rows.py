"""Statements for runs and their attempts: request, claim, lease, outcome, requeue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import RunStatus
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """A run that is queued in Postgres, to be enqueued in Redis. `task`: the arq function."""

    run_id: UUID
    task: str
    attempt: int = 1

    @property
    def arq_id(self) -> str:
        """The id of its job in arq's queue; each attempt has another."""
        return f"run:{self.run_id}:{self.attempt}"


def is_enqueued_run(arq_id: str, argument: object) -> bool:
    """Return whether the arq job of that id is a `QueuedRun` whose id is the argument."""
    return isinstance(argument, str) and arq_id.startswith(f"run:{argument}:")


@dataclass(frozen=True, slots=True)
class QueuedRunsPage:
    """Keyset page of queued runs: `limit` runs after (`at`, `run_id`)."""

    at: datetime
    run_id: UUID
    limit: int


LEASE_SECONDS = 15.0  # of a lease, unless the settings say otherwise

# The run and the event that says why it waits, in one statement; the id makes it idempotent.
REQUEST = """
WITH requested AS (
  INSERT INTO runs (execution_id, job, trigger, requested_by, params, status, attempt, losses,
                    max_attempts, timeout_seconds, lease_epoch, queued_at, stats,
                    schedule_id, org_id, not_before, created_at)
  VALUES ($1, $2, 'manual', $3, $4, 'queued', 1, 0, $5, $6, 0, $7, '{}', $8, $9, $10,
          clock_timestamp())
  ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
)
INSERT INTO run_events (execution_id, at, event, attempt, detail)
SELECT execution_id, $7, 'deferred', 1, $11 FROM requested WHERE $10::timestamptz IS NOT NULL
"""

# The recipe that a queued run names, or else its schedule, which is `source:NAME`.
RECIPE = """
SELECT coalesce(r.params ->> 'source', split_part(s.key, ':', 2))
FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.execution_id = $1 AND r.status = 'queued'
"""

# SKIP LOCKED: concurrent sweeps share the work instead of waiting for each other.
# A run that was its worker's only one has caused the death, or may have: the attempt counts. Of
# several, any may have: each is suspected, and none has lost an attempt. Those that it claimed
# after its last heartbeat expire up to a third of a lease later; all are judged together then.
REQUEUE_EXPIRED = """
WITH found AS (
  SELECT execution_id, worker, losses, suspicions, max_attempts FROM runs r
  WHERE status = 'running' AND lease_expires_at < $1
    AND NOT EXISTS (
      SELECT FROM runs o WHERE o.worker = r.worker AND o.status = 'running'
        AND o.lease_expires_at BETWEEN $1 AND $1 + $2::float8 / 2 * interval '1 second')
  FOR UPDATE SKIP LOCKED
), judged AS (
  SELECT f.*, (SELECT count(*) FROM runs o
               WHERE o.worker = f.worker AND o.status = 'running'
                 AND o.execution_id <> f.execution_id) AS others
  FROM found f
), expired AS (
  SELECT execution_id, others,
         others = 0 AND losses + 1 + least(suspicions, 1) >= max_attempts AS out_of_attempts
  FROM judged
), moved AS (
  UPDATE runs r SET losses = losses + CASE WHEN e.others = 0 THEN 1 ELSE 0 END,
         suspicions = suspicions + CASE WHEN e.others = 0 THEN 0 ELSE 1 END,
         lease_epoch = lease_epoch + 1, lease_expires_at = NULL,
         status = CASE WHEN e.out_of_attempts THEN 'lost' ELSE 'queued' END,
         attempt = CASE WHEN e.out_of_attempts THEN attempt ELSE attempt + 1 END,
         completed_at = CASE WHEN e.out_of_attempts THEN $1 END,
         duration_seconds =
           CASE WHEN e.out_of_attempts
             THEN extract(epoch FROM greatest($1, started_at) - started_at) END,
         error_type = CASE WHEN e.out_of_attempts THEN 'lost' END,
         error_message = CASE WHEN e.out_of_attempts
           THEN 'worker ' || coalesce(worker, '?') || ' died or could not renew its lease; no '
                || 'attempts left: ' || losses + 1 + suspicions
                || ' processes did so while they executed this run' END,
         queued_at = $1
  FROM expired e WHERE r.execution_id = e.execution_id
  RETURNING r.execution_id, r.job, r.attempt, r.status, r.worker, e.others
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker, detail)
  SELECT execution_id, $1, 'lost',
         CASE WHEN status = 'queued' THEN attempt - 1 ELSE attempt END, worker,
         CASE WHEN status = 'lost' THEN 'lease expired; no attempts left'
              WHEN others = 0 THEN 'lease expired; queued again'
              ELSE 'lease expired, as did those of ' || others || ' other runs of the worker: '
                   || 'not counted, and queued again for a process of its own' END
  FROM moved
), closed AS (
  UPDATE run_sources s SET status = 'lost' FROM moved m
  WHERE s.execution_id = m.execution_id AND m.status = 'lost' AND s.status = 'running'
)
SELECT execution_id, job, attempt, status FROM moved
"""

# Queued runs that Redis may have lost, without those that `queue_one` blocks.
WAITING = """
SELECT execution_id, job, attempt FROM runs
WHERE status = 'queued' AND queued_at < $1 AND coalesce(not_before, queued_at) < $1
  AND ($3::text[] IS NULL OR job = ANY ($3)) AND org_id IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM schedules s JOIN runs o ON o.schedule_id = s.id
    WHERE s.id = runs.schedule_id AND s.policies ->> 'overlap' = 'queue_one'
      AND o.execution_id <> runs.execution_id
      AND (o.status = 'running'
           OR (o.status = 'queued'
               AND coalesce(o.scheduled_for, o.not_before, o.created_at)
                   < coalesce(runs.scheduled_for, runs.not_before, runs.created_at))))
ORDER BY queued_at LIMIT $2
"""

# Paginated, because there may be a hundred thousand.
WAITING_OF_ORGS = """
SELECT execution_id, job, attempt, queued_at FROM runs
WHERE status = 'queued' AND queued_at < $1 AND coalesce(not_before, queued_at) < $1
  AND ($3::text[] IS NULL OR job = ANY ($3)) AND org_id IS NOT NULL
  AND (queued_at, execution_id) > ($4, $5)
  AND NOT EXISTS (
    SELECT 1 FROM schedules s JOIN runs o ON o.schedule_id = s.id
    WHERE s.id = runs.schedule_id AND s.policies ->> 'overlap' = 'queue_one'
      AND o.execution_id <> runs.execution_id
      AND (o.status = 'running'
           OR (o.status = 'queued'
               AND coalesce(o.scheduled_for, o.not_before, o.created_at)
                   < coalesce(runs.scheduled_for, runs.not_before, runs.created_at))))
ORDER BY queued_at, execution_id LIMIT $2
"""

# Only if the attempt is still the one that Redis lacks: another sweep may have queued it again.
REQUEUE = """
WITH again AS (
  UPDATE runs r SET attempt = r.attempt + 1, queued_at = $1
  FROM unnest($2::uuid[], $3::int[]) AS w (run_id, attempt)
  WHERE r.execution_id = w.run_id AND r.attempt = w.attempt AND r.status = 'queued'
  RETURNING r.execution_id, r.job, r.attempt
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, detail)
  SELECT execution_id, $1, 'requeued', attempt, 'not found in Redis' FROM again
)
SELECT execution_id, job, attempt FROM again
"""

# Raises the lease's epoch, so that the writes of a worker that still executes it are fenced.
CANCEL = """
WITH ended AS (
  UPDATE runs SET status = 'cancelled', completed_at = $2, lease_expires_at = NULL,
                  lease_epoch = lease_epoch + 1, error_type = 'cancelled', error_message = $3,
                  duration_seconds = extract(epoch FROM greatest($2, started_at) - started_at)
  WHERE execution_id = ANY ($1::uuid[]) AND status IN ('queued', 'running')
  RETURNING execution_id, attempt, worker
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker, detail)
  SELECT execution_id, $2, 'cancelled', attempt, worker, $3 FROM ended
), closed AS (
  UPDATE run_sources s SET status = 'cancelled' FROM ended e
  WHERE s.execution_id = e.execution_id AND s.status = 'running'
)
SELECT execution_id FROM ended
"""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A manual run to queue; `schedule_id` and `org_id` are set for a collection.

    `timeout`: seconds. `not_before`: when it may start; None is at once.
    """

    run_id: UUID
    job: str
    params: dict[str, Any]
    requested_by: str
    max_attempts: int
    timeout: float
    schedule_id: int | None = None
    org_id: UUID | None = None
    not_before: datetime | None = None

    def values(self) -> tuple[UUID, str, str, dict[str, Any], int, float]:
        """The parameters with which REQUEST and START begin."""
        who = (self.run_id, self.job, self.requested_by, self.params)
        return *who, self.max_attempts, self.timeout


async def request(pool: Pool | Connection, run_request: RunRequest, now: datetime) -> None:
    """Insert a queued manual run; does nothing if a run of that id exists."""
    at = run_request.not_before
    await pool.execute(
        REQUEST,
        *run_request.values(),
        now,
        run_request.schedule_id,
        run_request.org_id,
        at,
        None if at is None else f"until {at:%Y-%m-%d %H:%M:%S} UTC: requested for then",
    )


async def is_suspect(pool: Pool, run_id: UUID) -> bool:
    """Whether the run is queued, and a worker died while it executed it."""
    found: bool | None = await pool.fetchval(
        "SELECT status = 'queued' AND losses + suspicions > 0 FROM runs WHERE execution_id = $1",
        run_id,
    )
    return bool(found)


async def seconds_until_due(pool: Pool, run_id: UUID, now: datetime) -> float | None:
    """Return in how many seconds a queued run may start; None if it may, or is not queued."""
    at: datetime | None = await pool.fetchval(
        "SELECT not_before FROM runs WHERE execution_id = $1 AND status = 'queued'", run_id
    )
    return None if at is None or at <= now else (at - now).total_seconds()


async def recipe_of(pool: Pool, run_id: UUID) -> str | None:
    """Return the name of the recipe that a queued run collects; None if it is not queued."""
    return await pool.fetchval(RECIPE, run_id)


async def requeue_expired(
    pool: Pool, now: datetime, lease: float = LEASE_SECONDS
) -> tuple[list[QueuedRun], list[UUID]]:
    """Handle runs with expired leases; returns those queued again, and those out of attempts.

    `lease`: seconds of a lease.
    """
    rows = await pool.fetch(REQUEUE_EXPIRED, now, lease)
    again = [QueuedRun(*row[:3]) for row in rows if row["status"] == RunStatus.QUEUED]
    return again, [row[0] for row in rows if row["status"] == RunStatus.LOST]


async def queued_runs(
    pool: Pool, before: datetime, jobs: Sequence[str] | None = None, limit: int = 2_000
) -> list[QueuedRun]:
    """Return the operator's runs that have been queued and ready since before `before`.

    The oldest first. Only of these `jobs`, unless None: a worker must not requeue jobs that it
    cannot run.
    """
    return [QueuedRun(*row) for row in await pool.fetch(WAITING, before, limit, jobs)]


async def queued_org_runs(
    pool: Pool, before: datetime, jobs: Sequence[str] | None, page: QueuedRunsPage
) -> tuple[list[QueuedRun], QueuedRunsPage | None]:
    """As `queued_runs`, for organisations: one page, and the next page unless this was the last."""
    rows = await pool.fetch(WAITING_OF_ORGS, before, page.limit, jobs, page.at, page.run_id)
    next_page = None
    if len(rows) == page.limit:
        next_page = QueuedRunsPage(rows[-1]["queued_at"], rows[-1]["execution_id"], page.limit)
    return [QueuedRun(*row[:3]) for row in rows], next_page


async def requeue(pool: Pool, lost: Sequence[QueuedRun], now: datetime) -> list[QueuedRun]:
    """Start a new attempt, and so a new arq job id, for queued runs that Redis lost."""
    rows = await pool.fetch(REQUEUE, now, [w.run_id for w in lost], [w.attempt for w in lost])
    return [QueuedRun(*row) for row in rows]


async def cancel_open(
    connection: Pool | Connection, run_ids: Sequence[UUID], now: datetime, *, by: str
) -> list[UUID]:
    """Cancel open runs; their workers notice at the next lease renewal. Returns their ids."""
    rows = await connection.fetch(CANCEL, list(run_ids), now, by)
    return [row["execution_id"] for row in rows]


async def read_run(pool: Pool | Connection, run_id: UUID) -> dict[str, Any] | None:
    row = await pool.fetchrow("SELECT * FROM runs WHERE execution_id = $1", run_id)
    return None if row is None else dict(row)
