"""One pass of alerting: judge everything, record state changes, queue messages.

Any number of processes may run it. A lock in Postgres admits one at a time, and a change and its
messages are written in one transaction, so that each is written once even if a process dies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import log
from app.core.enums import JobStatus
from app.health import keys
from app.health.alerts import compose, job_state
from app.health.alerts.compose import Manners, Plan
from app.health.alerts.job_state import SCHEDULER, Seen, Standing, State
from app.health.judge import DEFAULT, Rules
from app.store.db import Connection, Pool
from app.store.reports import alerts as store

COLLECTIONS_INTERVAL = 60  # seconds
COLLECTIONS_LOOKED = "rollcall:alert:collections"

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """What a pass needs. `channels`: names of the notifiers that messages are queued for."""

    pool: Pool
    redis: Redis
    rules: Rules = DEFAULT
    manners: Manners = field(default_factory=Manners)
    channels: Sequence[str] = ()


async def look(context: Watched) -> bool:
    """Judge once, unless another process does so now. Returns whether a message was queued.

    Raises the errors of asyncpg; without Redis the scheduler counts as unhealthy.
    """
    pool = context.pool
    async with pool.acquire() as connection, connection.transaction():
        now = await store.alone(connection)
        if now is None:
            return False
        states = await _states(connection)
        current = await _seen(context, connection, states, now)
        flips = [s for s in current.standings.values() if job_state.changed(s, states.get(s.key))]
        if flips:
            await store.flip(connection, [_flip(one) for one in flips], now)
            states = await _states(connection)
        plan = compose.plan(current, states, context.manners)
        if plan:
            await _queue_message(context, connection, plan, current, states)
    _log_flips(flips)
    return bool(plan)


async def _states(connection: Connection) -> dict[str, State]:
    return {row["key"]: State(**row) for row in await store.states(connection)}


async def _seen(
    context: Watched, connection: Connection, states: Mapping[str, State], now: datetime
) -> Seen:
    try:
        jobs = await keys.read_jobs(context.redis)
        workers = await keys.read_workers(context.redis)
        collections = await _claim_collections(context.redis)
    except (RedisError, OSError, TimeoutError):
        return Seen(now, {SCHEDULER: job_state.blind(now)})
    intervals = [facts.interval_seconds for facts in jobs.values() if facts.interval_seconds]
    known = bool(jobs) or SCHEDULER in states
    standings = [
        job_state.of_scheduler(workers, intervals, now, known=known),
        *job_state.of_jobs(jobs, now, context.rules),
    ]
    if collections:
        standings += await _collections(connection, states, now)
    return Seen(now, {one.key: one for one in standings})


async def _claim_collections(redis: Redis) -> bool:
    claimed = await redis.set(COLLECTIONS_LOOKED, "1", nx=True, ex=COLLECTIONS_INTERVAL)
    return bool(cast("object", claimed))


async def _collections(
    connection: Connection, states: Mapping[str, State], now: datetime
) -> list[Standing]:
    unhealthy = [
        _unhealthy_collection(row, now) for row in await store.ill_collections(connection, now)
    ]
    keys_ = {one.key for one in unhealthy}
    recorded = [s for s in states.values() if s.key.startswith("collection:") and s.ill]
    recovered = [
        Standing(state.key, JobStatus.HEALTHY, ill=False, since=now)
        for state in recorded
        if state.key not in keys_
    ]
    return unhealthy + recovered


def _unhealthy_collection(row: Mapping[str, object], now: datetime) -> Standing:
    state, due = str(row["state"]), row["next_tick_at"]
    overdue = state == "overdue"
    problem = "its tick was not decided in time" if overdue else "its last three runs failed"
    return Standing(
        key=str(row["key"]),
        status=JobStatus.UNHEALTHY,
        ill=True,
        since=now,
        reason=state,
        detail=f"{row['name']}: {problem}",
        expected=due if overdue and isinstance(due, datetime) else None,
        last_error=str(row["error"])[:300] if row["error"] else None,
    )


def _flip(one: Standing) -> store.Flip:
    return store.Flip(one.key, one.status.value, one.reason, one.ill, one.since, one.detail)


async def _queue_message(
    context: Watched,
    connection: Connection,
    plan: Plan,
    current: Seen,
    states: Mapping[str, State],
) -> None:  # fmt: skip
    await store.told(connection, (plan.ill, plan.reminded, plan.recovered), current.now)
    message = compose.message(plan, current, states, context.manners)
    texts = (message.title, message.body)
    await store.queue(connection, context.channels, texts, current.now)
    _log.warning("alert.put_out", title=message.title, channels=len(context.channels))


def _log_flips(flips: Sequence[Standing]) -> None:
    for one in flips:
        write = _log.warning if one.ill else _log.info
        write(
            "health.flipped",
            job=one.key,
            status=one.status.value,
            reason=one.reason,
            why=one.detail or None,
        )
