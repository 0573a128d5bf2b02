"""Explains a tick, from its schedule to its run, in sentences."""

from datetime import datetime, timedelta

from app.core.errors import BadSchedule, UnknownJob, UnknownTick
from app.ledger.proof import fault_of
from app.ledger.stored_schedules import read_schedule
from app.store.db import Connection, Pool
from app.store.reports import proof as store
from app.store.reports.proof import TickDetail
from app.store.runs import run_rows
from app.store.schedules import schedule_rows
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
    state = await schedule_rows.one(connection, key)
    if state is None:
        known = ", ".join(s.key for s in await schedule_rows.all_of(connection)) or "none yet"
        raise UnknownJob(f"there is no schedule {key!r}; known: {known}")
    tick = await store.tick(connection, key, at)
    if tick is None:
        pruned = await store.pruned_through(connection, state.id)
        return [*_about(state), _undecided(state, at, pruned)]
    return [*_about(state), *_decision(tick), *await _run(connection, tick)]


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


def _undecided(state: ScheduleState, at: datetime | None, pruned: datetime | None) -> str:
    if pruned is not None and (at is None or at <= pruned):
        return f"Ticks up to {_at(pruned)} were pruned; only their counts are kept (TICK_DAYS)."
    if at is None:
        return "No tick has been decided yet."
    try:
        schedule = read_schedule(state)
    except BadSchedule:
        return f"{_at(at)} has no outcome."
    if schedule.next(at - timedelta(microseconds=1)) == at and at > state.evaluated_through:
        return f"{_at(at)} has not been decided yet."
    raise UnknownTick(
        f"{_at(at)} is not a tick of {state.key}, which is due {schedule.describe()}"
        f" (version {state.version})"
    )


def _decision(tick: TickDetail) -> list[str]:
    outcome = tick.outcome.value if tick.reason is None else f"{tick.outcome} ({tick.reason})"
    more = f", with {tick.count - 1} more after it" if tick.count > 1 else ""
    sentences = [
        f"The tick of {_at(tick.scheduled_for)}{more} was decided at {_at(tick.decided_at)}:"
        f" {outcome}."
    ]
    if tick.blocking_run_id is not None:
        sentences.append(f"Run {tick.blocking_run_id} was still open and blocked it.")
    return sentences


async def _run(connection: Connection, tick: TickDetail) -> list[str]:
    if tick.run_id is None:
        return []
    run = await run_rows.read_run(connection, tick.run_id)
    if run is None:
        return [f"It created run {tick.run_id}, which has been pruned since."]
    sentences = [f"It created run {tick.run_id}, queued at {_at(run['created_at'])}."]
    for event in await store.events(connection, tick.run_id):
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
