"""Explains a tick, from its schedule to its run, in sentences."""

from dataclasses import replace
from datetime import datetime, timedelta

from app.core.enums import TickReason
from app.core.errors import BadSchedule, UnknownTick
from app.ledger.proof import fault_of
from app.ledger.stored_schedules import existing, read_policies, read_schedule
from app.store.db import Connection, Pool
from app.store.reports import proof as store
from app.store.reports.proof import PastVersion, TickDetail
from app.store.runs import listing, run_rows
from app.store.schedules.schedule_rows import ScheduleState


async def explain(pool: Pool, key: str, at: datetime | None) -> list[str]:
    """Explain a tick (the latest if `at` is None), from schedule to run, as a list of sentences.

    Raises UnknownJob if there is no such schedule, and UnknownTick if it has no such tick.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await explain_in(connection, key, at)


async def explain_in(connection: Connection, key: str, at: datetime | None) -> list[str]:
    """Do the same as `explain` in the caller's transaction, with the rows visible to its
    connection."""
    state = await existing(connection, key)
    tick = await store.tick(connection, key, at)
    if tick is None:
        pruned = await store.pruned_through(connection, state.id)
        return [*_about(state), await _undecided(connection, state, at, pruned)]
    at = tick.last if at is None else at
    version = await store.version(connection, state.id, tick.version, at)
    if tick.count > 1 and version is not None:
        _check_is_tick(state, version, at)
    sentences = [*_about(state), *_decision(tick, at), *_replaced(state, version)]
    if tick.reason is TickReason.SCHEDULER_DOWN and version is not None:
        sentences += await _silence(connection, _start(state, version, at))
    if tick.reason is TickReason.PAUSED and version is not None:
        sentences += await _pause(connection, state, version, at)
    if tick.reason is TickReason.EXCLUDED and version is not None:
        sentences += _exclusion(state, version, at)
    if tick.reason is TickReason.DISABLED:
        sentences += await _disabled(connection, state, at)
    return sentences + await _run(connection, tick)


def _about(state: ScheduleState) -> list[str]:
    fault = fault_of(state)
    sentences = [f"{state.key} cannot be read; its ticks are held until it is edited: {fault}"]
    if fault is None:
        due = read_schedule(state).describe()
        sentences = [f"{state.key} is due {due} (version {state.version})."]
    if state.retired_at is not None:
        sentences.append(f"It was retired at {_at(state.retired_at)}.")
    elif not state.enabled:
        sentences.append("It is disabled.")
    if state.paused_at is not None:
        until = f" until {_at(state.paused_until)}" if state.paused_until is not None else ""
        sentences.append(
            f"It is paused since {_at(state.paused_at)}{until} by {state.paused_by}:"
            f" {state.paused_note}"
        )
    sentences.append(f"Every tick up to {_at(state.evaluated_through)} is decided.")
    return sentences


async def _undecided(
    connection: Connection, state: ScheduleState, at: datetime | None, pruned: datetime | None
) -> str:
    if pruned is not None and (at is None or at <= pruned):
        return f"Ticks up to {_at(pruned)} were pruned; only their counts are kept (TICK_DAYS)."
    if at is None:
        return "No tick has been decided yet."
    version = await store.version(connection, state.id, None, at)
    if version is None:
        raise UnknownTick(f"{_at(at)} is not a tick of {state.key}, which was created later")
    if not _check_is_tick(state, version, at) or at <= state.evaluated_through:
        return f"{_at(at)} has no outcome."
    return f"{_at(at)} has not been decided yet."


def _as_of(state: ScheduleState, version: PastVersion) -> ScheduleState:
    if version.version == state.version:
        return state
    return replace(
        state,
        version=version.version,
        spec=version.spec,
        policies=version.policies,
        zone_data=version.zone_data,
    )


def _check_is_tick(state: ScheduleState, version: PastVersion, at: datetime) -> bool:
    """Return whether the version can be read; raises UnknownTick if `at` is none of its ticks."""
    try:
        schedule = read_schedule(_as_of(state, version))
    except BadSchedule:
        return False
    if version.until is None and state.retired_at is not None and at > state.retired_at:
        raise UnknownTick(
            f"{_at(at)} is not a tick of {state.key}, which was retired at {_at(state.retired_at)}"
        )
    if schedule.next(at - timedelta(microseconds=1)) != at:
        due = "is due" if version.until is None else "was due then"
        raise UnknownTick(
            f"{_at(at)} is not a tick of {state.key}, which {due} {schedule.describe()}"
            f" (version {version.version})"
        )
    return True


def _decision(tick: TickDetail, at: datetime) -> list[str]:
    outcome = tick.outcome.value if tick.reason is None else f"{tick.outcome} ({tick.reason})"
    decided = f"was decided at {_at(tick.decided_at)}"
    if tick.count > 1:  # when a gap was begun: it has grown since
        decided = (
            f"is one of {tick.count} from {_at(tick.scheduled_for)} to {_at(tick.last)} with the"
            " same outcome"
        )
    sentences = [f"The tick of {_at(at)} {decided}: {outcome}."]
    if tick.blocking_run_id is not None:
        sentences.append(f"Run {tick.blocking_run_id} was still open and blocked it.")
    return sentences


def _replaced(state: ScheduleState, version: PastVersion | None) -> list[str]:
    """Tell of the version that a tick belongs to, if it is no longer in force."""
    if version is None or version.version == state.version:
        return []
    try:
        due = f"due {read_schedule(_as_of(state, version)).describe()}"
    except BadSchedule:
        due = "which cannot be read any more"
    until = "" if version.until is None else f" until {_at(version.until)}"
    why = f", when it was replaced ({version.reason})" if version.reason and until else ""
    return [
        f"It is a tick of version {version.version}, {due}, in force from {_at(version.since)}"
        f"{until}{why}."
    ]


def _start(state: ScheduleState, version: PastVersion, at: datetime) -> datetime:
    past = _as_of(state, version)
    try:
        return read_schedule(past, read_policies(past)).starts_at(at)
    except BadSchedule:
        return at


async def _silence(connection: Connection, at: datetime) -> list[str]:
    """Tell of workers that lived while none could record it, as without Postgres."""
    found = await store.silence(connection, at)
    if found is None:
        return []
    return [
        f"A worker that was alive before and after sent Postgres no heartbeat from {_at(found[0])}"
        f" to {_at(found[1])}: it could not reach it, or was suspended."
    ]


async def _pause(
    connection: Connection, state: ScheduleState, version: PastVersion, at: datetime
) -> list[str]:
    """Tell of the pause for which the tick at `at` was skipped, if that is over."""
    found = await store.pause_before(connection, state.id, _start(state, version, at))
    if found is None or found[0] == state.paused_at:
        return []
    since, by, note = found
    return [f"It was paused since {_at(since)} by {by}: {note}"]


def _exclusion(state: ScheduleState, version: PastVersion, at: datetime) -> list[str]:
    past = _as_of(state, version)
    try:
        policies = read_policies(past)
        rule = policies.excluding_rule(read_schedule(past), at)
    except BadSchedule:
        return []
    return [] if rule is None else [f"It is excluded by {rule} ({policies.exclude.timezone})."]


async def _disabled(connection: Connection, state: ScheduleState, at: datetime) -> list[str]:
    """Tell who had disabled a collection before the tick at `at`; a setting has no author."""
    found = await store.disabled_before(connection, state.id, at)
    return [] if found is None else [f"It was disabled at {_at(found[0])} by {found[1]}."]


async def _run(connection: Connection, tick: TickDetail) -> list[str]:
    if tick.run_id is None:
        return []
    run = await run_rows.read_run(connection, tick.run_id)
    if run is None:
        return [f"It created run {tick.run_id}, which has been pruned since."]
    sentences = [f"It created run {tick.run_id}, queued at {_at(run['created_at'])}."]
    for event in await listing.events(connection, tick.run_id):
        worker = f" on {event['worker']}" if event["worker"] else ""
        detail = f": {event['detail']}" if event["detail"] else ""
        sentences.append(
            f"Attempt {event['attempt']} {event['event']} at {_at(event['at'])}{worker}{detail}."
        )
    error = f": {run['error_message']}" if run["error_message"] else ""
    sentences.append(f"The run is {run['status']}{error}.")
    return sentences


def _at(instant: datetime) -> str:
    return instant.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")
