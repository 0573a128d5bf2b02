"""Organisations with schedules, written straight into the tables."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from arq.connections import ArqRedis

from app.core.enums import COLLECTION_TASK, RunStatus
from app.queue import org_queue
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.runs.run_rows import QueuedRun

INSERT_ORGS = """
INSERT INTO organizations (id, name)
SELECT i, 'org ' || i FROM unnest($1::uuid[]) AS i ON CONFLICT DO NOTHING
"""

INSERT_SCHEDULES = """
WITH fresh AS (
  INSERT INTO schedules (key, job, org_id, spec, policies, params, effective_from,
                         evaluated_through, next_tick_at, due_at, enabled, version)
  SELECT 'collection:' || o.id, $2, o.id, o.spec::jsonb, o.policies::jsonb, '{}', $3, $3, o.next,
         o.due, true, 1
  FROM unnest($1::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[])
         AS o (id, spec, policies, next, due)
  RETURNING id, spec, policies, effective_from
)
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM fresh
"""

INSERT_RUNS = """
INSERT INTO runs (execution_id, job, schedule_id, org_id, scheduled_for, trigger, params, status,
                  attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats,
                  created_at)
SELECT gen_random_uuid(), job, id, org_id, $1, 'scheduled', '{}', $2, 1, 0, 3, 240, 0, $1, '{}', $1
FROM schedules WHERE org_id IS NOT NULL
"""


def org(number: int) -> UUID:
    """The organisation of that number."""
    return UUID(int=number + 1)


def key(number: int) -> str:
    """The key of its schedule."""
    return f"{COLLECTION_TASK}:{org(number)}"


async def found(
    pool: Pool,
    since: datetime,
    schedules: Sequence[Schedule],
    policies: Policies,
) -> None:
    """An organisation for each schedule, which names instants from `since` on."""
    ids = [org(number) for number in range(len(schedules))]
    named = [
        policies.apply_jitter(Schedule(one.rule, key(number)))
        for number, one in enumerate(schedules)
    ]
    nexts = [one.next(since) for one in named]
    await pool.execute(INSERT_ORGS, ids)
    await pool.execute(
        INSERT_SCHEDULES,
        ids,
        COLLECTION_TASK,
        since,
        [json.dumps(one.to_spec()) for one in schedules],
        [json.dumps(policies.to_spec())] * len(ids),
        nexts,
        [one.starts_at(tick) for one, tick in zip(named, nexts, strict=True)],
    )


async def books(pool: Pool) -> dict[str, list[dict[str, Any]]]:
    """All that the ledger wrote, without what is made up anew each time (ids of runs)."""
    return {name: [dict(row) for row in await pool.fetch(text)] for name, text in BOOKS.items()}


BOOKS = {
    "ticks": """
      SELECT s.key, t.scheduled_for, t.version, t.outcome, t.reason, t.decided_at,
             r.scheduled_for AS ran_for, b.scheduled_for AS blocked_by
      FROM ticks t JOIN schedules s ON s.id = t.schedule_id
      LEFT JOIN runs r ON r.execution_id = t.run_id
      LEFT JOIN runs b ON b.execution_id = t.blocking_run_id
      ORDER BY s.key, t.scheduled_for
    """,
    "gaps": """
      SELECT s.key, g.first_tick, g.last_tick, g.count, g.version, g.outcome, g.reason, g.decided_at
      FROM tick_gaps g JOIN schedules s ON s.id = g.schedule_id ORDER BY s.key, g.first_tick
    """,
    "runs": """
      SELECT s.key, r.job, r.org_id, r.scheduled_for, r.trigger, r.params, r.status, r.attempt,
             r.losses, r.max_attempts, r.timeout_seconds, r.lease_epoch, r.queued_at, r.stats,
             r.error_message
      FROM runs r JOIN schedules s ON s.id = r.schedule_id ORDER BY s.key, r.scheduled_for
    """,
    "frontiers": """
      SELECT key, evaluated_through, next_tick_at, due_at FROM schedules ORDER BY key
    """,
}


async def add_runs(pool: Pool, at: datetime, status: RunStatus) -> None:
    """A run of each organisation's schedule, for that instant."""
    await pool.execute(INSERT_RUNS, at, status)


def run_id(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


async def add(redis: ArqRedis, count: int, *, took: float = 0.0, name: str = "quick") -> int:
    """Add so many runs, named by number, of organisations whose last run took so long."""
    ids = [run_id(f"{name}-{n}") for n in range(count)]
    runs = [QueuedRun(one, "collection") for one in ids]
    return await org_queue.add_runs(redis, runs, dict.fromkeys(ids, took))
