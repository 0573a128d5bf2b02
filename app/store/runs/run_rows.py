"""Statements for runs and their attempts: request, claim, lease, outcome, requeue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import RunStatus
from app.core.printable import clean_text
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run with the attempt that holds its lease. Writes are fenced by `epoch`.

    `timeout`: seconds. `next_due`: when the schedule's next tick is due. `org_id`: the owner; None
    is the operator. `retries`: failed attempts before this one.
    """

    run_id: UUID
    job: str
    epoch: int
    attempt: int
    params: dict[str, Any]
    timeout: float
    schedule_key: str | None
    scheduled_for: datetime | None
    trigger: str
    started_at: datetime
    requested_by: str | None
    deferrals: int = 0
    next_due: datetime | None = None
    org_id: UUID | None = None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Deferral:
    """Until when a run is deferred, which of its sources are left, and why.

    `retry`: it is the retry of a failed run, of which the sources that did not succeed are left.
    """

    until: datetime
    sources: tuple[str, ...]
    reason: str
    retry: bool = False


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


@dataclass(frozen=True, slots=True)
class RunEnding:
    """The outcome with which an attempt ends its run."""

    status: RunStatus
    at: datetime
    stats: dict[str, Any] | None = None
    error_type: str | None = None
    error_message: str | None = None


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

# Under the overlap policy `queue_one`: the older run first, and one at a time.
CLAIM = """
WITH claimed AS (
  UPDATE runs SET status = 'running', lease_epoch = lease_epoch + 1,
                  lease_expires_at = $3::timestamptz + $4::float8 * interval '1 second',
                  worker = $2, started_at = coalesce(started_at, $3), not_before = NULL
  WHERE execution_id = $1 AND status = 'queued' AND coalesce(not_before, $3) <= $3
    AND ($5 OR losses + suspicions = 0)
    AND NOT EXISTS (
      SELECT 1 FROM schedules s JOIN runs o ON o.schedule_id = s.id
      WHERE s.id = runs.schedule_id AND s.policies ->> 'overlap' = 'queue_one'
        AND o.execution_id <> runs.execution_id
        AND (o.status = 'running'
             OR (o.status = 'queued'
                 AND coalesce(o.scheduled_for, o.not_before, o.created_at)
                     < coalesce(runs.scheduled_for, runs.not_before, runs.created_at))))
  RETURNING execution_id, job, lease_epoch, attempt, params, timeout_seconds, schedule_id,
            scheduled_for, trigger, started_at, requested_by, deferrals, org_id, retries
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker)
  SELECT execution_id, $3, 'started', attempt, $2 FROM claimed
)
SELECT c.execution_id, c.job, c.lease_epoch, c.attempt, c.params, c.timeout_seconds, s.key,
       c.scheduled_for, c.trigger, c.started_at, c.requested_by, c.deferrals, s.due_at,
       c.org_id, c.retries
FROM claimed c LEFT JOIN schedules s ON s.id = c.schedule_id
"""

# A manual run that a worker executes at once: requested and claimed. It returns what CLAIM does.
# Its limits are those of the schedule $10, as far as they are numbers within the policies' bounds.
START = """
WITH attempts AS (
  SELECT (policies -> 'max_attempts')::int AS most FROM schedules
  WHERE key = $10 AND policies -> 'max_attempts' BETWEEN '1' AND '100'
), timeout AS (
  SELECT (policies -> 'timeout_seconds')::float8 AS seconds FROM schedules
  WHERE key = $10 AND policies -> 'timeout_seconds' BETWEEN '0.001' AND '604800'
), started AS (
  INSERT INTO runs (execution_id, job, trigger, requested_by, params, status, attempt, losses,
                    max_attempts, timeout_seconds, lease_epoch, queued_at, stats,
                    worker, started_at, lease_expires_at)
  VALUES ($1, $2, 'manual', $3, $4, 'running', 1, 0,
          coalesce((SELECT most FROM attempts), $5), coalesce((SELECT seconds FROM timeout), $6),
          1, $7, '{}', $8, $7, $7::timestamptz + $9::float8 * interval '1 second')
  ON CONFLICT (execution_id) DO NOTHING
  RETURNING execution_id, job, lease_epoch, attempt, params, timeout_seconds, scheduled_for,
            trigger, started_at, requested_by, deferrals, org_id, retries
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker)
  SELECT execution_id, $7, 'started', attempt, $8 FROM started
)
SELECT execution_id, job, lease_epoch, attempt, params, timeout_seconds, NULL::text,
       scheduled_for, trigger, started_at, requested_by, deferrals, NULL::timestamptz,
       org_id, retries
FROM started
"""

# The recipe that a queued run names, or else its schedule, which is `source:NAME`.
RECIPE = """
SELECT coalesce(r.params ->> 'source', split_part(s.key, ':', 2))
FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.execution_id = $1 AND r.status = 'queued'
"""

# All leases of a worker in one statement. A lease that was lost is left out of what it returns.
RENEW = """
UPDATE runs SET lease_expires_at = $3::timestamptz + $4::float8 * interval '1 second'
FROM unnest($1::uuid[], $2::bigint[]) AS mine (run_id, epoch)
WHERE execution_id = mine.run_id AND lease_epoch = mine.epoch AND status = 'running'
RETURNING execution_id, lease_epoch
"""

# Outcome, event and open sources in one statement, and only while the attempt holds the lease.
# Repeated, because its answer was lost, it finds what it has recorded.
FINISH = """
WITH ended AS (
  UPDATE runs SET status = $3, completed_at = $4, lease_expires_at = NULL,
                  duration_seconds = extract(epoch FROM greatest($4, started_at) - started_at),
                  stats = coalesce($5, stats), error_type = $6, error_message = $7
  WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
  RETURNING execution_id, attempt, worker
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker, detail)
  SELECT execution_id, $4, 'finished', attempt, worker, $3 FROM ended
), closed AS (
  UPDATE run_sources s SET status = $3 FROM ended e
  WHERE s.execution_id = e.execution_id AND s.status = 'running'
)
SELECT count(*) FROM (
  SELECT FROM ended
  UNION ALL
  SELECT FROM runs WHERE execution_id = $1 AND lease_epoch = $2 AND status = $3) AS recorded
"""

# A new attempt that counts as neither a retry nor a loss: its worker stopped.
HAND_BACK = """
WITH back AS (
  UPDATE runs SET status = 'queued', attempt = attempt + 1, queued_at = $3,
                  lease_expires_at = NULL
  WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
  RETURNING execution_id, job, attempt, worker
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker, detail)
  SELECT execution_id, $3, 'cancelled', attempt - 1, worker, $4 FROM back
)
SELECT execution_id, job, attempt FROM back
"""

# A claim whose answer was lost, by its lease: one that was renewed since is another.
UNHEARD = """
SELECT lease_epoch FROM runs
WHERE execution_id = $1 AND status = 'running'
  AND lease_expires_at = $2::timestamptz + $3::float8 * interval '1 second'
"""

# Queued, logged, and its sources reopened in one statement; $7 says which counter goes up.
DEFER = """
WITH back AS (
  UPDATE runs SET status = 'queued', attempt = attempt + 1,
                  deferrals = deferrals + ($7 = 'deferred')::int,
                  retries = retries + ($7 = 'retried')::int,
                  queued_at = $3, not_before = $4, lease_expires_at = NULL
  WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
  RETURNING execution_id, job, attempt, worker
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker, detail)
  SELECT execution_id, $3, $7::text, attempt - 1, worker, $6 FROM back
), reopened AS (
  UPDATE run_sources s SET status = 'queued' FROM back
  WHERE s.execution_id = back.execution_id
    AND (s.source = ANY ($5::text[]) OR ($7 = 'retried' AND s.status <> 'success'))
)
SELECT execution_id, job, attempt FROM back
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
           THEN 'worker ' || coalesce(worker, '?') || ' died; no attempts left: '
                || losses + 1 + suspicions || ' processes died while they executed this run' END,
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


async def claim(
    pool: Pool, run_id: UUID, worker: str, now: datetime, lease: float, *, suspects: bool = True
) -> ClaimedRun | None:
    """Claim a queued run with a lease of `lease` seconds; None if it cannot be claimed.

    `suspects`: also claim a run whose worker has died before.
    """
    row = await pool.fetchrow(CLAIM, run_id, worker, now, lease, suspects)
    return None if row is None else ClaimedRun(*row)


async def start(
    pool: Pool, run_request: RunRequest, worker: str, now: datetime, lease: float, key: str
) -> ClaimedRun | None:
    """Insert a manual run of a built-in job and claim it; None if a run of that id exists.

    The attempts and the timeout are those of the schedule `key`; those of the request if there is
    none that says them.
    """
    row = await pool.fetchrow(START, *run_request.values(), now, worker, lease, key)
    return None if row is None else ClaimedRun(*row)


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


async def renew(
    pool: Pool, held: Sequence[tuple[UUID, int]], now: datetime, lease: float
) -> set[tuple[UUID, int]]:
    """Extend leases, given as (run id, epoch); returns those that are still held."""
    rows = await pool.fetch(RENEW, [r for r, _ in held], [e for _, e in held], now, lease)
    return {(row["execution_id"], row["lease_epoch"]) for row in rows}


async def finish(pool: Pool, claimed: ClaimedRun, ending: RunEnding) -> bool:
    """Record the outcome of a run; False if the attempt was fenced off."""
    count = await pool.fetchval(
        FINISH,
        claimed.run_id,
        claimed.epoch,
        ending.status.value,
        ending.at,
        ending.stats,
        ending.error_type,
        None if ending.error_message is None else clean_text(ending.error_message),
    )
    return count == 1


async def release_unheard(
    pool: Pool, run_id: UUID, claimed_at: datetime, lease: float, now: datetime
) -> bool:
    """Queue a run again that was claimed then, if it was; returns whether it was."""
    epoch = await pool.fetchval(UNHEARD, run_id, claimed_at, lease)
    why = "the answer to its claim was lost"
    return epoch is not None and await pool.fetchrow(HAND_BACK, run_id, epoch, now, why) is not None


async def release(pool: Pool, claimed: ClaimedRun, now: datetime, why: str) -> QueuedRun | None:
    """Queue the run again with a new attempt; None if this attempt was fenced off."""
    row = await pool.fetchrow(HAND_BACK, claimed.run_id, claimed.epoch, now, clean_text(why))
    return None if row is None else QueuedRun(*row)


async def defer(
    pool: Pool, claimed: ClaimedRun, now: datetime, deferral: Deferral
) -> QueuedRun | None:
    """Queue the run again, not to start before `deferral.until`; None if fenced off."""
    row = await pool.fetchrow(
        DEFER,
        claimed.run_id,
        claimed.epoch,
        now,
        deferral.until,
        list(deferral.sources),
        clean_text(f"until {deferral.until:%Y-%m-%d %H:%M:%S} UTC: {deferral.reason}")[:2_000],
        "retried" if deferral.retry else "deferred",
    )
    return None if row is None else QueuedRun(*row)


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
