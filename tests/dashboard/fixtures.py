"""Schedules, ticks and runs as a page may find them, written straight into the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from redis.asyncio import Redis

from app.core.enums import MISS_REASONS, RunStatus, TickOutcome, TickReason
from app.health import keys
from app.health.facts import WorkerFacts
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from tests.published import publish_all_jobs

STEP = timedelta(minutes=5)
GOOD = RunStatus.SUCCESS
BAD = RunStatus.FAILURE
ERROR = "the site answered 503 to everything"

ADD = """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from,
                       evaluated_through, next_tick_at, due_at, paused_at, paused_by, paused_note,
                       created_at, enabled)
VALUES ($1, $1, $2, $3, '{}', 1, $4, $5, $6, $6, $7, $8, $9, $4, true) RETURNING id
"""
VERSION = """
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM schedules WHERE id = $1
"""
RUN = """
INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status, attempt,
                  queued_at, started_at, completed_at, duration_seconds, error_type, error_message,
                  stats, created_at, losses, max_attempts, timeout_seconds, lease_epoch)
VALUES ($1, $2, $3, $4, 'scheduled', '{}', $5, 1, $4, $4, $6, $7, $8, $9, '{}', $4, 0, 3, 240, 0)
"""
TICK = """
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, run_id, decided_at)
VALUES ($1, $2, 1, $3, $4, $5, $2)
"""
GAP = """
INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version, outcome, reason,
                       decided_at)
VALUES ($1, $2, $3, $4, 1, $5, $6, $3)
"""

# A run that ended so, or why there was none.
Fate = RunStatus | TickReason


@dataclass(frozen=True, slots=True)
class Scene:
    """Where it is set. `now`: the last whole minute; the last tick of every schedule."""

    pool: Pool
    redis: Redis
    now: datetime

    @classmethod
    def of(cls, pool: Pool, redis: Redis) -> "Scene":
        """A scene of this minute."""
        return cls(pool, redis, datetime.now(UTC).replace(second=0, microsecond=0))

    async def job(
        self,
        key: str,
        fates: Sequence[Fate],
        *,
        ago: timedelta = timedelta(0),
        paused: str | None = None,
    ) -> int:
        """A schedule of every five minutes whose last ticks, up to `ago`, became these."""
        last = self.now - ago
        first = last - STEP * (len(fates) - 1)
        schedule = Schedule.every(STEP.total_seconds(), anchor=last, name=key)
        schedule_id: int = await self.pool.fetchval(
            ADD,
            key,
            schedule.to_spec(),
            Policies().to_spec(),
            first - STEP / 2,
            last,
            last + STEP,
            last if paused else None,
            "operator/ann" if paused else None,
            paused,
        )
        await self.pool.execute(VERSION, schedule_id)
        for number, fate in enumerate(fates):
            await self.tick(schedule_id, key, first + STEP * number, fate)
        return schedule_id

    async def tick(self, schedule_id: int, key: str, at: datetime, fate: Fate) -> UUID | None:
        """One tick of it, and its run if it made one."""
        if isinstance(fate, TickReason):
            missed = fate in MISS_REASONS
            outcome = TickOutcome.MISSED if missed else TickOutcome.SKIPPED
            await self.pool.execute(TICK, schedule_id, at, outcome.value, fate.value, None)
            return None
        run_id, failed = uuid4(), fate not in {GOOD, RunStatus.RUNNING}
        open_ = fate is RunStatus.RUNNING
        await self.pool.execute(
            RUN,
            run_id,
            key,
            schedule_id,
            at,
            fate.value,
            None if open_ else at + timedelta(seconds=4),
            None if open_ else 4.0,
            "http_status" if failed else None,
            ERROR if failed else None,
        )
        await self.pool.execute(TICK, schedule_id, at, TickOutcome.RAN.value, None, run_id)
        return run_id

    async def gap(self, schedule_id: int, before: timedelta, count: int) -> None:
        """`count` ticks in one row, missed while no worker lived, up to so long ago."""
        last = self.now - before
        first = last - STEP * (count - 1)
        why = TickReason.SCHEDULER_DOWN.value
        await self.pool.execute(GAP, schedule_id, first, last, count, "missed", why)

    async def beats(self, *stretches: tuple[timedelta, timedelta]) -> None:
        """Workers were beating from so long ago until so long ago."""
        for since, until in stretches:
            await self.pool.execute(
                "INSERT INTO worker_beats (worker, since, until, jumped)"
                " VALUES ('w', $1, $2, false)",
                self.now - since,
                self.now - until,
            )

    async def publish(self, *, workers: int = 1) -> None:
        """Publish health as the workers would, and so many of them beating."""
        await publish_all_jobs(self.pool, self.redis)
        for number in range(workers):
            facts = WorkerFacts(seen_at=datetime.now(UTC))
            await keys.write_worker(self.redis, f"w{number}", 300, facts)


async def alive(scene: Scene, *, hours: float = 12) -> None:
    """A worker has been beating all the time, up to just now."""
    await scene.beats((timedelta(hours=hours), timedelta(seconds=-120)))
