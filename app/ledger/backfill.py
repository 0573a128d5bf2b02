"""Backfills: runs for past ticks of a schedule, a few at a time, each tick once.

A backfill is a row that the workers feed: they add its next runs when earlier ones have ended.
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

from app.core import log
from app.core.enums import OPEN_STATUSES, AuditAction, RunStatus
from app.core.errors import BadSchedule, InvalidValue
from app.ledger.stored_schedules import check_open, existing, read_schedule
from app.queue import enqueue
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store import audit
from app.store.audit import AuditEntry
from app.store.db import Connection, Pool
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import backfills as store
from app.store.schedules import schedule_rows
from app.store.schedules.backfills import Backfill, UnfinishedBackfill

MAX_TICKS = 100_000  # ticks of one backfill
POLL_SECONDS = 0.25  # seconds
STATUS_BATCH = 5_000  # runs per query
RETIRED = "rollcall (the job is retired)"  # who stopped a backfill whose job was retired
_INSTANT = timedelta(microseconds=1)

_log = log.logger(__name__)


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
    concurrency: int = 1
    reason: str = ""


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

    def forget(self) -> None:
        """Drop the statuses, to load them again."""
        self.ended.clear()
        self.open.clear()
        self.todo.clear()


async def make_plan(pool: Pool, request: BackfillRequest, now: datetime) -> BackfillPlan:
    """Return the runs of a backfill and the status of those that exist. Writes nothing.

    Raises UnknownJob if there is no such schedule, BadSchedule if it cannot be read, and
    InvalidValue if the range ends in the future or has more than MAX_TICKS ticks.
    """
    state = await existing(pool, request.key)
    if request.until > now:
        message = f"{request.until.isoformat()} is in the future: a backfill covers past ticks only"
        raise InvalidValue("until", message)
    # In a thread: so many ticks take seconds, in which the web would answer nobody.
    ticks = await asyncio.to_thread(_ticks, read_schedule(state), request)
    if len(ticks) > MAX_TICKS:
        message = f"the range has more than {MAX_TICKS:,} ticks: choose a shorter one"
        raise InvalidValue("until", message)
    if request.missing:
        served = await store.successful_ticks(pool, state.id, request.since, request.until)
        ticks = [tick for tick in ticks if tick not in served]
    Policies.from_spec(state.policies)  # raises BadSchedule
    backfill = Backfill(
        id=_uuid(
            f"{request.key} {request.name} {request.since.isoformat()} {request.until.isoformat()}"
        ),
        state=state,
        name=request.name,
        since=request.since,
        until=request.until,
        requested_by=request.by,
        concurrency=request.concurrency,
        reason=request.reason,
    )
    runs = await asyncio.to_thread(_runs, request.key, request.name, ticks)
    plan = BackfillPlan(backfill, runs)
    await _load_statuses(pool, plan)
    return plan


def _ticks(schedule: Schedule, request: BackfillRequest) -> list[datetime]:
    """Return the ticks of the range, at most one more than there may be."""
    return list(islice(schedule.ticks(request.since - _INSTANT, request.until), MAX_TICKS + 1))


def _runs(key: str, name: str, ticks: Sequence[datetime]) -> list[tuple[UUID, datetime]]:
    """Return the ticks of a schedule, each with the id of its run in the backfill of that name."""
    return [(_uuid(f"{key} {name} {tick.isoformat()}"), tick) for tick in ticks]


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


async def start(pool: Pool, plan: BackfillPlan, now: datetime) -> None:
    """Record the backfill, and who requested it; from then on the workers feed it.

    The same request again continues it with the ticks that have no run. Raises WrongState if the
    schedule is retired.
    """
    backfill = plan.backfill
    check_open(backfill.state)
    detail = {"since": backfill.since.isoformat(), "until": backfill.until.isoformat()}
    entry = AuditEntry(
        now,
        backfill.requested_by,
        AuditAction.BACKFILL,
        backfill.state.key,
        reason=backfill.reason,
        detail=detail | {"runs": len(plan.todo)},
    )
    async with pool.acquire() as connection, connection.transaction():
        await store.begin(connection, backfill, [tick for _, tick in plan.todo], now)
        await audit.record(connection, [entry])


async def stop(pool: Pool, backfill_id: UUID, now: datetime, *, by: str, reason: str = "") -> bool:
    """Add no more runs to a backfill; those that are queued end. False if it is complete."""
    async with pool.acquire() as connection, connection.transaction():
        key = await store.stop(connection, backfill_id, now, by)
        if key is not None:
            entry = AuditEntry(now, by, AuditAction.STOP_BACKFILL, key, reason=reason)
            await audit.record(connection, [entry])
    return key is not None


async def feed(pool: Pool, redis: ArqRedis, now: datetime) -> None:
    """Enqueue the next runs of all backfills, as far as they may have more runs open.

    The oldest backfill comes first. Every worker may call this at any time.
    """
    if not await store.any_unfinished(pool):
        return
    queued: list[QueuedRun] = []
    async with pool.acquire() as connection, connection.transaction():
        for backfill in await store.lock_unfinished(connection):
            queued += await _feed(connection, backfill, now)
            await store.complete(connection, backfill.id, now)
    # A run that is not enqueued now is enqueued by a later sweep.
    await enqueue.enqueue_runs(pool, redis, queued)


async def _feed(
    connection: Connection, unfinished: UnfinishedBackfill, now: datetime
) -> list[QueuedRun]:
    free = await store.free_slots(connection, now, unfinished.concurrency)
    chunk = _runs(unfinished.key, unfinished.name, unfinished.next_ticks[:free])
    state = await schedule_rows.one(connection, unfinished.key) if chunk else None
    if state is None:
        return []
    if state.retired_at is not None:
        await store.stop(connection, unfinished.id, now, RETIRED)
        return []
    try:
        policies = Policies.from_spec(state.policies)
    except BadSchedule as error:  # held until it is mended, as its ticks are
        _log.error("schedule.undecidable", schedule=unfinished.key, error=str(error))
        return []
    created = await store.insert_runs(connection, unfinished, (state, policies), chunk, now)
    await store.record_fed(connection, unfinished.id, len(chunk))
    return [QueuedRun(run_id, state.job) for run_id in created]


async def follow(pool: Pool, plan: BackfillPlan, on_progress: Callable[[int], None]) -> None:
    """Wait until the backfill is complete or stopped, then load the status of its runs.

    Calls `on_progress` with the number of ended runs after every poll.
    """
    before = plan.done
    while True:
        progress = await store.progress(pool, plan.backfill.id)
        if progress is None or progress.completed_at is not None:
            break
        on_progress(before + max(0, progress.fed - progress.open))
        await asyncio.sleep(POLL_SECONDS)
    plan.forget()
    await _load_statuses(pool, plan)
    while plan.open:  # also of an overlapping backfill
        await asyncio.sleep(POLL_SECONDS)
        plan.forget()
        await _load_statuses(pool, plan)
    on_progress(plan.done)
