"""Statements for the attempts of runs: claim, lease, outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import RunStatus
from app.core.printable import clean_text
from app.store.db import Pool
from app.store.runs.run_rows import QueuedRun, RunRequest


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
class RunEnding:
    """The outcome with which an attempt ends its run."""

    status: RunStatus
    at: datetime
    stats: dict[str, Any] | None = None
    error_type: str | None = None
    error_message: str | None = None


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
