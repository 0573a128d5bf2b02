"""The watch: judge everything, write down what flipped, and put out what is to be told.

Any number of processes may watch. In Postgres one at a time judges, and a flip and its messages are
written in the same transaction: there is one of each, however many watch and whenever one dies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import log
from app.alerts import compose, standing
from app.alerts.compose import Manners, Plan
from app.alerts.standing import SCHEDULER, Seen, Standing, State
from app.health import keys
from app.health.judge import DEFAULT, Rules
from app.store import alerts as store
from app.store.db import Connection, Pool
from app.words import JobStatus

COLLECTIONS_EVERY = 60  # seconds
COLLECTIONS_LOOKED = "rollcall:alert:collections"

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched, by which rules, and who is to be told how. `channels`: the notifiers."""

    pool: Pool
    redis: Redis
    rules: Rules = DEFAULT
    manners: Manners = field(default_factory=Manners)
    channels: Sequence[str] = ()


async def look(watched: Watched) -> bool:
    """Judge once, if nobody else is at it. True if something was put out to be told."""
    pool = watched.pool
    async with pool.acquire() as connection, connection.transaction():
        now = await store.alone(connection)
        if now is None:
            return False
        states = await _states(connection)
        seen = await _seen(watched, connection, states, now)
        flips = [s for s in seen.standings.values() if standing.changed(s, states.get(s.key))]
        if flips:
            await store.flip(connection, [_flip(one) for one in flips], now)
            states = await _states(connection)
        plan = compose.plan(seen, states, watched.manners)
        if plan:
            await _put_out(watched, connection, plan, seen, states)
    _tell(flips)
    return bool(plan)


async def _states(connection: Connection) -> dict[str, State]:
    return {row["key"]: State(**row) for row in await store.states(connection)}


async def _seen(
    watched: Watched, connection: Connection, states: Mapping[str, State], now: datetime
) -> Seen:
    try:
        jobs = await keys.read_jobs(watched.redis)
        workers = await keys.read_workers(watched.redis)
        collections = await _time_for_collections(watched.redis)
    except (RedisError, OSError, TimeoutError):
        return Seen(now, {SCHEDULER: standing.blind(now)})
    intervals = [facts.interval_seconds for facts in jobs.values() if facts.interval_seconds]
    known = bool(jobs) or SCHEDULER in states
    standings = [
        standing.of_scheduler(workers, intervals, now, known=known),
        *standing.of_jobs(jobs, now, watched.rules),
    ]
    if collections:
        standings += await _collections(connection, states, now)
    return Seen(now, {one.key: one for one in standings})


async def _time_for_collections(redis: Redis) -> bool:
    looked = await redis.set(COLLECTIONS_LOOKED, "1", nx=True, ex=COLLECTIONS_EVERY)
    return bool(cast("object", looked))


async def _collections(
    connection: Connection, states: Mapping[str, State], now: datetime
) -> list[Standing]:
    ill = [_ill_collection(row, now) for row in await store.ill_collections(connection, now)]
    named = {one.key for one in ill}
    known = [s for s in states.values() if s.key.startswith("collection:") and s.ill]
    well = [
        Standing(state.key, JobStatus.HEALTHY, ill=False, since=now)
        for state in known
        if state.key not in named
    ]
    return ill + well


def _ill_collection(row: Mapping[str, object], now: datetime) -> Standing:
    state, due = str(row["state"]), row["next_tick_at"]
    overdue = state == "overdue"
    what = "its tick was not decided in time" if overdue else "its last three runs failed"
    return Standing(
        key=str(row["key"]),
        status=JobStatus.UNHEALTHY,
        ill=True,
        since=now,
        reason=state,
        detail=f"{row['name']}: {what}",
        expected=due if overdue and isinstance(due, datetime) else None,
        last_error=str(row["error"])[:300] if row["error"] else None,
    )


def _flip(one: Standing) -> store.Flip:
    return store.Flip(one.key, one.status.value, one.reason, one.ill, one.since, one.detail)


async def _put_out(
    watched: Watched,
    connection: Connection,
    plan: Plan,
    seen: Seen,
    states: Mapping[str, State],
) -> None:  # fmt: skip
    await store.told(connection, (plan.ill, plan.reminded, plan.recovered), seen.now)
    message = compose.message(plan, seen, states, watched.manners)
    texts = (message.title, message.body)
    await store.queue(connection, watched.channels, texts, seen.now)
    _log.warning("alert.put_out", title=message.title, channels=len(watched.channels))


def _tell(flips: Sequence[Standing]) -> None:
    for one in flips:
        tell = _log.warning if one.ill else _log.info
        tell(
            "health.flipped",
            job=one.key,
            status=one.status.value,
            reason=one.reason,
            why=one.detail or None,
        )
