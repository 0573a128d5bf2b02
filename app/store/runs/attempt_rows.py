"""Statements for the attempts of runs: claim, lease, outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
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


# Runs that one worker claims at the same time. Under the overlap policy `queue_one`: the older run
# first, and one at a time. The limit, and a status that is a column, let a plan that was made while
# there were few runs find them by their ids: those of the partial indexes become many.
CLAIM = """
WITH wanted AS MATERIALIZED (
  SELECT w.*, 'queued' AS status
  FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::boolean[])
         AS w (run_id, worker, at, suspects)
  LIMIT cardinality($1::uuid[])
), claimed AS (
  UPDATE runs SET status = 'running', lease_epoch = lease_epoch + 1,
                  lease_expires_at = w.at + $5::float8 * interval '1 second',
                  worker = w.worker, started_at = coalesce(started_at, w.at), not_before = NULL
  FROM wanted w
  WHERE execution_id = w.run_id AND runs.status = w.status
    AND coalesce(not_before, w.at) <= w.at
    AND (w.suspects OR losses + suspicions = 0)
    AND NOT EXISTS (
      SELECT 1 FROM schedules s JOIN runs o ON o.schedule_id = s.id
      WHERE s.id = runs.schedule_id AND s.policies ->> 'overlap' = 'queue_one'
        AND o.execution_id <> runs.execution_id
        AND (o.status = 'running'
             OR (o.status = 'queued'
                 AND coalesce(o.scheduled_for, o.not_before, o.created_at)
                     < coalesce(runs.scheduled_for, runs.not_before, runs.created_at))))
  RETURNING execution_id, job, lease_epoch, attempt, params, timeout_seconds, schedule_id,
            scheduled_for, trigger, started_at, requested_by, deferrals, org_id, retries,
            w.at, runs.worker
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker)
  SELECT execution_id, at, 'started', attempt, worker FROM claimed
)
SELECT c.execution_id, c.job, c.lease_epoch, c.attempt, c.params, c.timeout_seconds, s.key,
       c.scheduled_for, c.trigger, c.started_at, c.requested_by, c.deferrals, s.due_at,
       c.org_id, c.retries
FROM claimed c LEFT JOIN schedules s ON s.id = c.schedule_id
"""

# Manual runs that a worker executes at once: requested and claimed. It returns what CLAIM does.
# A run's limits are those of the schedule `key`, as far as they are numbers within the bounds of
# policies.
START = """
WITH wanted AS (
  SELECT w.*,
         CASE WHEN s.policies -> 'max_attempts' BETWEEN '1' AND '100'
           THEN (s.policies -> 'max_attempts')::int END AS most,
         CASE WHEN s.policies -> 'timeout_seconds' BETWEEN '0.001' AND '604800'
           THEN (s.policies -> 'timeout_seconds')::float8 END AS seconds
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::int[], $6::float8[],
              $7::timestamptz[], $8::text[], $9::text[])
         AS w (run_id, job, requested_by, params, max_attempts, timeout, at, worker, key)
  LEFT JOIN schedules s ON s.key = w.key
), started AS (
  INSERT INTO runs (execution_id, job, trigger, requested_by, params, status, attempt, losses,
                    max_attempts, timeout_seconds, lease_epoch, queued_at, stats,
                    worker, started_at, lease_expires_at)
  SELECT run_id, job, 'manual', requested_by, params, 'running', 1, 0,
         coalesce(most, max_attempts), coalesce(seconds, timeout), 1, at, '{}',
         worker, at, at + $10::float8 * interval '1 second'
  FROM wanted
  ON CONFLICT (execution_id) DO NOTHING
  RETURNING execution_id, job, lease_epoch, attempt, params, timeout_seconds, scheduled_for,
            trigger, started_at, requested_by, deferrals, org_id, retries, worker
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker)
  SELECT execution_id, started_at, 'started', attempt, worker FROM started
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

# Outcomes, events and open sources in one statement, and only of attempts that hold their leases.
# Repeated, because its answer was lost, it finds what it recorded. Limit and status: as in CLAIM.
FINISH = """
WITH given AS MATERIALIZED (
  SELECT g.*, 'running' AS status
  FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::jsonb[], $6::text[],
              $7::text[])
         AS g (run_id, epoch, outcome, at, stats, error_type, error_message)
  LIMIT cardinality($1::uuid[])
), ended AS (
  UPDATE runs SET status = g.outcome, completed_at = g.at, lease_expires_at = NULL,
                  duration_seconds = extract(epoch FROM greatest(g.at, started_at) - started_at),
                  stats = coalesce(g.stats, runs.stats), error_type = g.error_type,
                  error_message = g.error_message
  FROM given g
  WHERE execution_id = g.run_id AND lease_epoch = g.epoch AND runs.status = g.status
  RETURNING execution_id, lease_epoch, runs.status, attempt, worker, g.at
), logged AS (
  INSERT INTO run_events (execution_id, at, event, attempt, worker, detail)
  SELECT execution_id, at, 'finished', attempt, worker, status FROM ended
), closed AS (
  UPDATE run_sources s SET status = e.status FROM ended e
  WHERE s.execution_id = e.execution_id AND s.status = 'running'
)
SELECT execution_id, lease_epoch, status FROM ended
UNION ALL
SELECT r.execution_id, r.lease_epoch, r.status
FROM given g
JOIN runs r ON r.execution_id = g.run_id AND r.lease_epoch = g.epoch AND r.status = g.outcome
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


@dataclass(frozen=True, slots=True)
class Claim:
    """A queued run that a worker wants to execute.

    `suspects`: also if a worker has died while it executed the run.
    """

    run_id: UUID
    worker: str
    at: datetime
    suspects: bool = True


@dataclass(frozen=True, slots=True)
class Start:
    """A manual run that a worker wants to execute, and that is not recorded yet.

    The attempts and the timeout are those of the schedule `key`; those of the request if there is
    none that says them.
    """

    request: RunRequest
    worker: str
    at: datetime
    key: str


async def claim_all(pool: Pool, claims: Sequence[Claim], lease: float) -> list[ClaimedRun | None]:
    """Claim queued runs with leases of `lease` seconds; None for each that cannot be claimed.

    Of two claims of the same run, one is made.
    """
    values = [(claim.run_id, claim.worker, claim.at, claim.suspects) for claim in claims]
    claimed = _claimed_runs(await pool.fetch(CLAIM, *_columns(values), lease))
    return [claimed.pop(claim.run_id, None) for claim in claims]


async def start_all(pool: Pool, starts: Sequence[Start], lease: float) -> list[ClaimedRun | None]:
    """Insert manual runs and claim them, as `claim_all` does; None for each that exists."""
    values = [(*start.request.values(), start.at, start.worker, start.key) for start in starts]
    started = _claimed_runs(await pool.fetch(START, *_columns(values), lease))
    return [started.pop(start.request.run_id, None) for start in starts]


async def finish_all(pool: Pool, endings: Sequence[tuple[ClaimedRun, RunEnding]]) -> list[bool]:
    """Record the outcomes of runs; False for each attempt that was fenced off."""
    values = [
        (
            claimed.run_id,
            claimed.epoch,
            ending.status.value,
            ending.at,
            ending.stats,
            ending.error_type,
            None if ending.error_message is None else clean_text(ending.error_message),
        )
        for claimed, ending in endings
    ]
    recorded = {tuple(row) for row in await pool.fetch(FINISH, *_columns(values))}
    return [value[:3] in recorded for value in values]


def _claimed_runs(rows: Sequence[Any]) -> dict[UUID, ClaimedRun]:
    return {row[0]: ClaimedRun(*row) for row in rows}


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """The values of each column of the rows, which begin with the id of a run.

    Statements lock runs in the order of their ids, so that two do not wait for each other.
    """
    return [list(column) for column in zip(*sorted(rows, key=itemgetter(0)), strict=True)]


async def renew(
    pool: Pool, held: Sequence[tuple[UUID, int]], now: datetime, lease: float
) -> set[tuple[UUID, int]]:
    """Extend leases, given as (run id, epoch); returns those that are still held."""
    if not held:
        return set()
    rows = await pool.fetch(RENEW, *_columns(held), now, lease)
    return {(row["execution_id"], row["lease_epoch"]) for row in rows}


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
