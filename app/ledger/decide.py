"""Decides due ticks: of one schedule, or of many in one transaction, under their row locks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.core import log
from app.core.collection_keys import is_collection
from app.core.enums import TickOutcome
from app.core.errors import BadSchedule
from app.core.tasks import Slices
from app.ledger.decision_log import log_decision, log_decisions
from app.ledger.outcomes import MAX_REPEATED_TICKS, first_due_if_late, tick_decision
from app.ledger.remembered import RememberedRows
from app.ledger.stored_schedules import read_policies, read_schedule
from app.scheduling.policies import Policies
from app.scheduling.policy import AliveSpan, Decision, DecisionInput, OpenRun, decide
from app.scheduling.schedule import Schedule
from app.store.db import LOCKED, TRANSIENT, Connection, Pool
from app.store.runs.run_rows import QueuedRun, cancel_open
from app.store.schedules import decisions as store
from app.store.schedules import schedule_rows, trails
from app.store.schedules.decisions import TickDecision
from app.store.schedules.schedule_rows import DueQuery, ScheduleState

THREAD_ABOVE_TICKS = 200  # due ticks of one schedule above which it is decided in a thread

_log = log.logger(__name__)


@dataclass(slots=True)
class BatchResult:
    """The result of one batch: the number of schedules `found`, and the runs it created.

    `undecidable`: version keys of schedules that failed. The caller excludes them from the next
    batch, or they would be selected again without end. `written`: what was decided. `incomplete`:
    (version key, key) of schedules with more due ticks than one decision takes.
    """

    found: int = 0
    queued: list[QueuedRun] = field(default_factory=list[QueuedRun])
    undecidable: list[str] = field(default_factory=list[str])
    written: list[TickDecision] = field(default_factory=list[TickDecision])
    incomplete: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


@dataclass(frozen=True, slots=True)
class _Case:
    """A schedule row, parsed. `late`: its first due tick, if deciding it needs heartbeats."""

    state: ScheduleState
    schedule: Schedule
    policies: Policies
    late: datetime | None


@dataclass(frozen=True, slots=True)
class _Context:
    """What deciding needs besides the schedules: the time, open runs and heartbeats."""

    now: datetime
    open_runs: dict[int, list[OpenRun]]
    beats: Sequence[AliveSpan]


async def decide_schedule(
    pool: Pool, key: str, now: datetime, remembered: RememberedRows | None = None
) -> list[QueuedRun]:
    """Decide every tick of one schedule that is due by `now`; return the runs it created.

    Safe to call late, twice or concurrently: a tick at or before the frontier is never decided
    again. Returns an empty list for an unknown schedule. Raises BadSchedule if it is unreadable.
    `remembered`: rows that this process has written, which it need not read.
    """
    rows = RememberedRows() if remembered is None else remembered
    punctual = await _decide_punctual(pool, key, now, rows)
    if punctual is not None:
        return [punctual]
    queued: list[QueuedRun] = []
    complete = False
    while not complete:
        made: list[TickDecision] = []
        async with pool.acquire() as connection, connection.transaction():
            state = await schedule_rows.lock(connection, key)
            if state is None:
                return queued
            complete = await _decide_locked(connection, state, now, queued, made)
        for one in made:
            rows.decided(one, one.state.stamp)
    return queued


async def decide_all(
    connection: Connection, state: ScheduleState, now: datetime, queued: list[QueuedRun]
) -> ScheduleState:
    """Decide every due tick of a locked schedule in the caller's transaction.

    Adds the runs to `queued`; returns the schedule as it is after that. Raises BadSchedule if it is
    unreadable.
    """
    while not await _decide_locked(connection, state, now, queued):
        state = await schedule_rows.lock(connection, state.key) or state
    return await schedule_rows.lock(connection, state.key) or state


async def decide_due(pool: Pool, due: DueQuery) -> BatchResult:
    """Decide every tick of the organisations' schedules that are due, in one transaction.

    Schedules locked by another worker are skipped. A schedule that cannot be decided does not stop
    the others: it is logged and listed in `BatchResult.undecidable`.
    """
    try:
        async with pool.acquire() as connection, connection.transaction():
            return await _decide_together(
                connection, await schedule_rows.lock_due(connection, due), due.now
            )
    except TRANSIENT:
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("batch.undecidable", limit=due.limit)
        return await decide_each(pool, await schedule_rows.due_keys(pool, due), due.now)


async def decide_built_in(
    pool: Pool, keys: Sequence[tuple[str, str]], now: datetime, remembered: RememberedRows
) -> BatchResult:
    """Decide these schedules, by (version key, key), in one transaction, without waiting for locks.

    One with more due ticks than a decision takes, and all if they cannot be decided together, are
    decided in transactions of their own. `remembered`: rows that this process has written.
    """
    try:
        async with pool.acquire() as connection, connection.transaction():
            states = await schedule_rows.lock_keys(connection, [key for _, key in keys], now)
            batch = await _decide_together(connection, states, now)
    except LOCKED:  # by who has one of the runs that are to be cancelled
        return await decide_each(pool, keys, now)
    except TRANSIENT:
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("batch.undecidable", limit=len(keys))
        return await decide_each(pool, keys, now)
    for one in batch.written:
        remembered.decided(one, one.state.stamp)
    rest = await decide_each(pool, batch.incomplete, now)
    batch.queued += rest.queued
    batch.undecidable += rest.undecidable
    return batch


async def decide_each(pool: Pool, keys: Sequence[tuple[str, str]], now: datetime) -> BatchResult:
    """Decide each schedule, by (version key, key), in its own transaction."""
    batch = BatchResult(found=len(keys))
    for version_key, key in keys:
        try:
            batch.queued += await decide_schedule(pool, key, now)
        except LOCKED as error:  # the next dispatch decides it, as late if the lock lasted
            _log.warning("schedule.locked", schedule=key, error=str(error))
        except TRANSIENT:
            raise
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, version_key, key, error)
    return batch


async def _decide_punctual(
    pool: Pool, key: str, now: datetime, remembered: RememberedRows
) -> QueuedRun | None:
    """Decide a built-in schedule of which one tick is due, in time, and runs: in one statement.

    Returns None, and has written nothing, for whatever needs the lock, and if the row is not as it
    was remembered, or a run is open.
    """
    state = remembered.get(key)
    if state is None or state.due_at is None or state.due_at > now:
        return None
    case = _case(state, now)
    if case.late is not None:
        return None
    decision = decide(_decision_input(case, _Context(now, {}, ())))
    if [one.outcome for one in decision.outcomes] != [TickOutcome.RAN]:
        return None
    made = tick_decision(state, case.schedule, case.policies, decision)
    remembered.forget(key)
    stamp = await store.record_punctual(pool, made, now)
    if stamp is None:
        return None
    remembered.decided(made, stamp)
    log_decision(key, decision)
    return _queued([made])[0]


async def _decide_locked(
    connection: Connection,
    state: ScheduleState,
    now: datetime,
    queued: list[QueuedRun],
    made: list[TickDecision] | None = None,
) -> bool:
    """Decide due ticks, at most as many as one decision takes; return whether none are left.

    Adds what it has written to `made`.
    """
    if state.retired_at is not None or (state.due_at is not None and state.due_at > now):
        return True
    case = _case(state, now)
    decision = await _decide(case, await _context(connection, [case], now))
    if decision.outcomes:
        written = await _record(connection, [(case, decision)], now)
        queued += _queued(written)
        if made is not None:
            made += written
    return decision.complete


async def _decide_together(
    connection: Connection, states: Sequence[ScheduleState], now: datetime
) -> BatchResult:
    """Decide locked schedules, each once."""
    batch, slices = BatchResult(found=len(states)), Slices()
    cases: list[_Case] = []
    for state in states:
        await slices.checkpoint()
        try:
            cases.append(_case(state, now))
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, state.version_key, state.key, error)
    if not cases:
        return batch
    context = await _context(connection, cases, now)
    made: list[tuple[_Case, Decision]] = []
    for case in cases:
        await slices.checkpoint()
        try:
            made.append((case, await _decide(case, context)))
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, case.state.version_key, case.state.key, error)
    batch.written = await _record(connection, made, now)
    batch.queued = _queued(batch.written)
    batch.incomplete = [
        (case.state.version_key, case.state.key) for case, one in made if not one.complete
    ]
    return batch


def _note_undecidable(batch: BatchResult, version_key: str, key: str, error: Exception) -> None:
    exc_info = None if isinstance(error, BadSchedule) else error
    _log.error("schedule.undecidable", schedule=key, error=str(error), exc_info=exc_info)
    batch.undecidable.append(version_key)


def _case(state: ScheduleState, now: datetime) -> _Case:
    policies = read_policies(state)
    schedule = read_schedule(state, policies)
    late = first_due_if_late(schedule, policies, state.evaluated_through, now)
    return _Case(state, schedule, policies, late)


async def _context(connection: Connection, cases: Sequence[_Case], now: datetime) -> _Context:
    late = [case.late for case in cases if case.late is not None]
    return _Context(
        now=now,
        open_runs=await store.open_runs(connection, [case.state.id for case in cases]),
        # Heartbeats only matter for late ticks; the common case skips the query.
        beats=await store.beats(connection, min(late)) if late else (),
    )


async def _decide(case: _Case, context: _Context) -> Decision:
    if case.late is not None and _is_long(case, case.late, context.now):
        return await asyncio.to_thread(decide, _decision_input(case, context))
    return decide(_decision_input(case, context))


def _is_long(case: _Case, first: datetime, now: datetime) -> bool:
    """Estimate from the first gap whether more than `THREAD_ABOVE_TICKS` ticks are due."""
    return now - first > THREAD_ABOVE_TICKS * (case.schedule.next(first) - first)


def _decision_input(case: _Case, context: _Context) -> DecisionInput:
    state, late = case.state, case.late
    return DecisionInput(
        schedule=case.schedule,
        policies=case.policies,
        frontier=state.evaluated_through,
        now=context.now,
        paused_at=state.paused_at,
        paused_until=state.paused_until,
        enabled=state.enabled,
        open_runs=context.open_runs.get(state.id, ()),
        beats=[beat for beat in context.beats if beat.until >= late] if late else (),
    )


async def _record(
    connection: Connection, made: Sequence[tuple[_Case, Decision]], now: datetime
) -> list[TickDecision]:
    cancelled = [run_id for _, decision in made for run_id in decision.cancel]
    if cancelled:
        await cancel_open(connection, cancelled, now, by="overlap policy cancel_running")
    decisions = [
        tick_decision(case.state, case.schedule, case.policies, decision) for case, decision in made
    ]
    await store.record(connection, decisions, now)
    lasts = [
        (one.state, one.ticks[-1])
        for one in decisions
        if one.ticks and one.ticks[-1].outcome is not TickOutcome.RAN
    ]
    await trails.compress(connection, lasts, now, MAX_REPEATED_TICKS)
    if len(made) > 1 and is_collection(made[0][0].state.key):
        log_decisions(decisions)
    else:
        for case, decision in made:
            log_decision(case.state.key, decision)
    return decisions


def _queued(decisions: Sequence[TickDecision]) -> list[QueuedRun]:
    return [
        QueuedRun(tick.run_id, one.state.job)
        for one in decisions
        for tick in one.ticks
        if tick.run_id is not None
    ]
