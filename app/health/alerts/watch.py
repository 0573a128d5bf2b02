"""One pass of alerting: judge everything, record state changes, queue messages.

Any number of processes may run it. A lock in Postgres admits one at a time, and a change and its
messages are written in one transaction, so that each is written once even if a process dies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.core import log, redact
from app.core.collection_keys import is_collection
from app.core.enums import AlertSeverity, JobStatus
from app.core.tasks import Slices
from app.health import keys
from app.health.alerts import compose, job_state, org_alerts
from app.health.alerts.compose import AlertChannel, AlertPlan, AlertPolicy
from app.health.alerts.job_state import SCHEDULER, CurrentStates, JobState, RecordedState
from app.health.judge import DEFAULT_RULES, HealthRules, OverallReason
from app.store import server_faults
from app.store.db import Connection, Pool
from app.store.reports import alerts
from app.store.reports import org_alerts as org_store

COLLECTIONS_INTERVAL = 60  # seconds
COLLECTIONS_KEY = "rollcall:alert:collections"

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class AlertContext:
    """What a pass needs. `channels`: the notifiers that messages are queued for."""

    pool: Pool
    redis: Redis
    rules: HealthRules = DEFAULT_RULES
    policy: AlertPolicy = field(default_factory=AlertPolicy)
    channels: Sequence[AlertChannel] = ()


async def check(context: AlertContext) -> bool:
    """Judge once, unless another process does so now. Returns whether a message was queued.

    Raises the errors of asyncpg; without Redis the scheduler counts as unhealthy.
    """
    pool = context.pool
    async with pool.acquire() as connection, connection.transaction():
        now = await alerts.try_lock(connection)
        if now is None:
            return False
        states = await _states(connection)
        current = await _seen(context, connection, states, now)
        flips = [s for s in current.states.values() if job_state.changed(s, states.get(s.key))]
        new = {one.key for one in flips} - states.keys()
        if flips:
            await alerts.record_flips(connection, [_flip(one) for one in flips], now)
            states = await _states(connection)
        plan = compose.plan(current, _operators(states), context.policy)
        if plan:
            await _queue_message(context, connection, plan, current, states)
        own = org_alerts.plan(current, states, context.policy)
        if own:
            await _enqueue_to_organisations(connection, own, current, states)
    # A job that is well when it is judged first has not changed.
    await _log_flips([one for one in flips if one.needs_attention or one.key not in new])
    return bool(plan or own)


async def _states(connection: Connection) -> dict[str, RecordedState]:
    slices, states = Slices(rest=1), dict[str, RecordedState]()
    for row in await alerts.states(connection):
        state = RecordedState(*row)
        states[state.key] = state
        await slices.checkpoint()
    return states


def _operators(states: Mapping[str, RecordedState]) -> dict[str, RecordedState]:
    """The states that alert the operator: all but those of organisations' collections."""
    return {key: one for key, one in states.items() if not is_collection(key)}


async def _seen(
    context: AlertContext,
    connection: Connection,
    states: Mapping[str, RecordedState],
    now: datetime,
) -> CurrentStates:
    try:
        jobs = await keys.read_jobs(context.redis)
        workers = await keys.read_workers(context.redis)
        collections = await _claim_collections(context.redis)
    except (RedisError, OSError) as error:
        return CurrentStates(now, {SCHEDULER: _without_redis(error, now)})
    intervals = [facts.interval_seconds for facts in jobs.values() if facts.interval_seconds]
    known = bool(jobs) or SCHEDULER in states
    slices = Slices(rest=1)
    standings = [job_state.of_scheduler(workers, intervals, now, known=known)]
    for key, facts in jobs.items():
        standings.append(job_state.of_job(key, facts, now, context.rules))
        await slices.checkpoint()
    gone = [key for key, one in _operators(states).items() if one.ill and key not in jobs]
    if gone:  # Redis may have lost them, too
        retired = await alerts.retired(connection, gone)
        standings += [_unwatched(key, now) for key in retired]
    if collections:
        standings += await _collections(connection, states, now)
    return CurrentStates(now, {one.key: one for one in standings})


def _without_redis(error: RedisError | OSError, now: datetime) -> JobState:
    refuses = isinstance(error, ResponseError)
    reason = OverallReason.REDIS_REFUSES_WRITES if refuses else OverallReason.REDIS_UNREACHABLE
    why = server_faults.redis_sentence(error)
    detail = f"no run can start, and the state of the jobs is unknown. {why}"
    title = "Redis refuses the login" if server_faults.is_lasting(error) else ""
    return job_state.stopped(now, reason, detail, title=title)


async def _claim_collections(redis: Redis) -> bool:
    claimed = await redis.set(COLLECTIONS_KEY, "1", nx=True, ex=COLLECTIONS_INTERVAL)
    return bool(cast("object", claimed))


async def _collections(
    connection: Connection, states: Mapping[str, RecordedState], now: datetime
) -> list[JobState]:
    recorded = [s.key for s in states.values() if is_collection(s.key) and s.ill]
    found = [
        _collection_state(row, now)
        for row in await org_store.judged_collections(connection, now, recorded)
    ]
    gone = set(recorded) - {one.key for one in found}  # retired, or without `notify`
    return found + [_unwatched(key, now) for key in gone]


def _unwatched(key: str, now: datetime) -> JobState:
    return JobState(key, JobStatus.PAUSED, needs_attention=False, since=now)


def _collection_state(row: Mapping[str, object], now: datetime) -> JobState:
    state, due = str(row["state"]), row["next_tick_at"]
    overdue = state == "overdue"
    if not overdue and state != "failing":
        status = JobStatus.PAUSED if state == "paused" else JobStatus.HEALTHY
        return JobState(str(row["key"]), status, needs_attention=False, since=now)
    problem = (
        "its tick was not decided in time"
        if overdue
        else "its last runs failed, or one source in each"
    )
    return JobState(
        key=str(row["key"]),
        status=JobStatus.UNHEALTHY,
        needs_attention=True,
        since=now,
        reason=state,
        detail=f"{row['name']}: {problem}",
        expected=due if overdue and isinstance(due, datetime) else None,
        last_error=redact.text(str(row["error"])[:300]) if row["error"] else None,
    )


def _flip(one: JobState) -> alerts.HealthFlip:
    return alerts.HealthFlip(
        one.key, one.status.value, one.reason, one.needs_attention, one.since, one.detail
    )


async def _queue_message(
    context: AlertContext,
    connection: Connection,
    plan: AlertPlan,
    current: CurrentStates,
    states: Mapping[str, RecordedState],
) -> None:  # fmt: skip
    await alerts.mark_notified(connection, plan, current.now)
    for channel in context.channels:
        found = compose.channel_messages(channel, plan, current, states, context.policy)
        for message in found:
            await alerts.enqueue(connection, [channel.name], message, current.now)
    for message in compose.messages(plan, current, states, context.policy):
        _log.warning(
            "alert.put_out",
            title=message.title,
            severity=message.severity.value,
            channels=len(context.channels),
        )


async def _enqueue_to_organisations(
    connection: Connection,
    plan: AlertPlan,
    current: CurrentStates,
    states: Mapping[str, RecordedState],
) -> None:
    """Queue the messages to organisations' channels; the feed has the changes already."""
    await alerts.mark_notified(connection, plan, current.now)
    await org_store.remind(connection, plan.get(AlertSeverity.WARNING, ()), current.now)
    channels = await org_store.channels(connection, org_alerts.owners(plan))
    found = org_alerts.messages(channels, plan, current, states)
    for channel, message in found:
        route = (channel.id, channel.org_id, channel.service)
        await org_store.enqueue(connection, route, message, current.now)
    _log.info("alert.of_collections", collections=sum(map(len, plan.values())), messages=len(found))


async def _log_flips(flips: Sequence[JobState]) -> None:
    slices = Slices(rest=1)
    for one in flips:
        await slices.checkpoint()
        write = _log.warning if one.needs_attention else _log.info
        write(
            "health.flipped",
            job=one.key,
            status=one.status.value,
            reason=one.reason,
            why=one.detail or None,
        )
