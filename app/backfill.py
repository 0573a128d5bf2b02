"""Backfills: the instants of a schedule once more, a few at a time, each of them once.

A run's id follows from schedule, name and instant: who was interrupted asks again and goes on.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from uuid import NAMESPACE_OID, UUID, uuid5

from arq.connections import ArqRedis

from app import telling
from app.errors import BadSchedule, UnknownJob
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store import backfills as store
from app.store import beats, schedules
from app.store.backfills import Backfill
from app.store.db import Pool
from app.store.runs import Waiting
from app.words import OPEN_STATUSES, RunStatus

MOST = 100_000  # instants of one backfill
LOOK_EVERY = 0.25  # seconds
LOOKED_UP = 5_000  # runs at once
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: from `since` to `until`, both included.

    `missing`: only instants of which nothing came. `again`: another name makes other runs.
    """

    key: str
    since: datetime
    until: datetime
    by: str
    name: str = "backfill"
    missing: bool = False


@dataclass(slots=True)
class Plan:
    """A backfill, its runs in order, and how those stand that are known already."""

    backfill: Backfill
    runs: Sequence[tuple[UUID, datetime]]
    ended: Counter[RunStatus] = field(default_factory=Counter[RunStatus])
    open: set[UUID] = field(default_factory=set[UUID])
    todo: list[tuple[UUID, datetime]] = field(default_factory=list[tuple[UUID, datetime]])

    @property
    def done(self) -> int:
        """How many of its runs have ended."""
        return sum(self.ended.values())


async def planned(pool: Pool, wish: Wish, now: datetime) -> Plan:
    """Which runs it takes, and how many of them there are already. Writes nothing.

    Raises UnknownJob, and BadSchedule for a range that has not come yet or is too long.
    """
    state = await schedules.one(pool, wish.key)
    if state is None:
        known = ", ".join(s.key for s in await schedules.all_of(pool)) or "none yet"
        raise UnknownJob(f"there is no schedule {wish.key!r}; known: {known}")
    if wish.until > now:
        raise BadSchedule(f"{wish.until.isoformat()} has not come yet: a backfill is of the past")
    schedule = Schedule.from_spec(state.spec, name=state.key)
    instants = list(islice(schedule.ticks(wish.since - _INSTANT, wish.until), MOST + 1))
    if len(instants) > MOST:
        raise BadSchedule(f"that is more than {MOST:,} instants: take a shorter range")
    if wish.missing:
        served = await store.served(pool, state.id, wish.since, wish.until)
        instants = [instant for instant in instants if instant not in served]
    policies = Policies.from_spec(state.policies)
    backfill = Backfill(
        id=_named(f"{wish.key} {wish.name} {wish.since.isoformat()} {wish.until.isoformat()}"),
        state=state,
        name=wish.name,
        since=wish.since,
        until=wish.until,
        requested_by=wish.by,
        max_attempts=policies.max_attempts,
        timeout=policies.timeout,
    )
    runs = [(_named(f"{wish.key} {wish.name} {at.isoformat()}"), at) for at in instants]
    plan = Plan(backfill, runs)
    await _look(pool, plan)
    return plan


def _named(text: str) -> UUID:
    return uuid5(NAMESPACE_OID, f"rollcall backfill {text}")


async def _look(pool: Pool, plan: Plan) -> None:
    for start in range(0, len(plan.runs), LOOKED_UP):
        some = plan.runs[start : start + LOOKED_UP]
        known = await store.statuses(pool, [run_id for run_id, _ in some])
        for run_id, at in some:
            status = known.get(run_id)
            if status is None:
                plan.todo.append((run_id, at))
            elif status in OPEN_STATUSES:
                plan.open.add(run_id)
            else:
                plan.ended[status] += 1


async def carry_out(
    pool: Pool, redis: ArqRedis, plan: Plan, most: int, told: Callable[[Plan], None]
) -> None:
    """Feed the runs to the workers, `most` at a time, until all have ended.

    To be interrupted at any point: what is queued ends, and the same wish goes on with the rest.
    """
    now = await beats.database_now(pool)
    await store.begin(pool, plan.backfill, len(plan.runs), now)
    plan.todo.reverse()  # the oldest last, to be taken from the end
    while plan.todo or plan.open:
        await _feed(pool, redis, plan, most)
        await _notice(pool, plan)
        told(plan)
        if plan.todo or plan.open:
            await asyncio.sleep(LOOK_EVERY)
    await store.complete(pool, plan.backfill.id, await beats.database_now(pool))


async def _feed(pool: Pool, redis: ArqRedis, plan: Plan, most: int) -> None:
    if not plan.todo:
        return
    now = await beats.database_now(pool)
    async with pool.acquire() as connection, connection.transaction():
        free = await store.room(connection, now, most)
        some = [plan.todo.pop() for _ in range(min(free, len(plan.todo)))]
        fresh = await store.feed(connection, plan.backfill, some, now) if some else []
    plan.open |= {run_id for run_id, _ in some}
    # What Redis does not hear now, a sweep tells it.
    job = plan.backfill.state.job
    await telling.tell(pool, redis, [Waiting(run, job, 1) for run in fresh])


async def _notice(pool: Pool, plan: Plan) -> None:
    known = await store.statuses(pool, list(plan.open))
    for run_id in list(plan.open):
        status = known.get(run_id)
        if status not in OPEN_STATUSES:
            plan.open.discard(run_id)
            plan.ended[status or RunStatus.LOST] += 1
