"""Backfills: runs for past ticks of a schedule, a few at a time, each tick once.

A run's id is derived from schedule, backfill name and tick, so an interrupted backfill continues
when it is requested again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from uuid import NAMESPACE_OID, UUID, uuid5

from arq.connections import ArqRedis

from app.core.enums import OPEN_STATUSES, RunStatus
from app.core.errors import BadSchedule, UnknownJob
from app.ledger.decide import read_schedule
from app.queue import enqueue
from app.scheduling.policies import Policies
from app.store.db import Pool
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import backfills as store
from app.store.schedules import heartbeats, schedule_rows
from app.store.schedules.backfills import Backfill

MAX_TICKS = 100_000  # ticks of one backfill
POLL_SECONDS = 0.25  # seconds
STATUS_BATCH = 5_000  # runs per query
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """A request for a backfill of the ticks from `since` to `until`, both included.

    `missing`: only ticks whose scheduled run stored nothing and is not open.
    `name`: another name creates other runs for the same ticks.
    """

    key: str
    since: datetime
    until: datetime
    by: str
    name: str = "backfill"
    missing: bool = False


@dataclass(slots=True)
class BackfillPlan:
    """A backfill with its runs (id, tick) in order of time, and the status of those that exist."""

    backfill: Backfill
    runs: Sequence[tuple[UUID, datetime]]
    ended: Counter[RunStatus] = field(default_factory=Counter[RunStatus])
    open: set[UUID] = field(default_factory=set[UUID])
    todo: list[tuple[UUID, datetime]] = field(default_factory=list[tuple[UUID, datetime]])

    @property
    def done(self) -> int:
        """The number of runs that have ended."""
        return sum(self.ended.values())


async def make_plan(pool: Pool, request: BackfillRequest, now: datetime) -> BackfillPlan:
    """Return the runs of a backfill and the status of those that exist. Writes nothing.

    Raises UnknownJob if there is no such schedule, and BadSchedule if the range ends in the future
    or has more than MOST ticks.
    """
    state = await schedule_rows.one(pool, request.key)
    if state is None:
        known = ", ".join(s.key for s in await schedule_rows.all_of(pool)) or "none yet"
        raise UnknownJob(f"there is no schedule {request.key!r}; known: {known}")
    if request.until > now:
        raise BadSchedule(
            f"{request.until.isoformat()} is in the future: a backfill covers past ticks only"
        )
    schedule = read_schedule(state)
    ticks = list(islice(schedule.ticks(request.since - _INSTANT, request.until), MAX_TICKS + 1))
    if len(ticks) > MAX_TICKS:
        raise BadSchedule(f"the range has more than {MAX_TICKS:,} ticks: choose a shorter one")
    if request.missing:
        served = await store.successful_ticks(pool, state.id, request.since, request.until)
        ticks = [tick for tick in ticks if tick not in served]
    policies = Policies.from_spec(state.policies)
    backfill = Backfill(
        id=_uuid(
            f"{request.key} {request.name} {request.since.isoformat()} {request.until.isoformat()}"
        ),
        state=state,
        name=request.name,
        since=request.since,
        until=request.until,
        requested_by=request.by,
        max_attempts=policies.max_attempts,
        timeout=policies.timeout,
    )
    runs = [(_uuid(f"{request.key} {request.name} {tick.isoformat()}"), tick) for tick in ticks]
    plan = BackfillPlan(backfill, runs)
    await _load_statuses(pool, plan)
    return plan


def _uuid(text: str) -> UUID:
    return uuid5(NAMESPACE_OID, f"rollcall backfill {text}")


async def _load_statuses(pool: Pool, plan: BackfillPlan) -> None:
    for start in range(0, len(plan.runs), STATUS_BATCH):
        chunk = plan.runs[start : start + STATUS_BATCH]
        known = await store.statuses(pool, [run_id for run_id, _ in chunk])
        for run_id, tick in chunk:
            status = known.get(run_id)
            if status is None:
                plan.todo.append((run_id, tick))
            elif status in OPEN_STATUSES:
                plan.open.add(run_id)
            else:
                plan.ended[status] += 1


async def execute(
    pool: Pool,
    redis: ArqRedis,
    plan: BackfillPlan,
    max_open: int,
    on_progress: Callable[[BackfillPlan], None],
) -> None:
    """Enqueue the runs, with at most `max_open` open at a time, until all have ended.

    Calls `on_progress` after every poll. Safe to interrupt at any point: queued runs still end, and
    the same request continues with the rest.
    """
    now = await heartbeats.database_now(pool)
    await store.begin(pool, plan.backfill, len(plan.runs), now)
    plan.todo.reverse()  # `pop` takes the oldest first
    while plan.todo or plan.open:
        await _enqueue_next(pool, redis, plan, max_open)
        await _refresh_open(pool, plan)
        on_progress(plan)
        if plan.todo or plan.open:
            await asyncio.sleep(POLL_SECONDS)
    await store.complete(pool, plan.backfill.id, await heartbeats.database_now(pool))


async def _enqueue_next(pool: Pool, redis: ArqRedis, plan: BackfillPlan, max_open: int) -> None:
    if not plan.todo:
        return
    now = await heartbeats.database_now(pool)
    async with pool.acquire() as connection, connection.transaction():
        free = await store.free_slots(connection, now, max_open)
        chunk = [plan.todo.pop() for _ in range(min(free, len(plan.todo)))]
        created = await store.insert_runs(connection, plan.backfill, chunk, now) if chunk else []
    plan.open |= {run_id for run_id, _ in chunk}
    # A run that is not enqueued now is enqueued by a later sweep.
    job = plan.backfill.state.job
    await enqueue.enqueue_runs(pool, redis, [QueuedRun(run, job) for run in created])


async def _refresh_open(pool: Pool, plan: BackfillPlan) -> None:
    known = await store.statuses(pool, list(plan.open))
    for run_id in list(plan.open):
        status = known.get(run_id)
        if status not in OPEN_STATUSES:
            plan.open.discard(run_id)
            plan.ended[status or RunStatus.LOST] += 1
