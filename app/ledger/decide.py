"""Decides the due ticks of many schedules of organisations in one transaction."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from app.core import log
from app.core.enums import TickOutcome, TickReason
from app.core.errors import BadSchedule
from app.ledger import edit
from app.ledger.outcomes import MAX_REPEATED_TICKS, first_due_if_late, tick_decision
from app.scheduling.policies import Policies
from app.scheduling.policy import AliveSpan, Decision, DecisionInput, OpenRun, decide
from app.scheduling.schedule import Schedule
from app.store.db import UNAVAILABLE, Connection, Pool
from app.store.runs.run_rows import QueuedRun, cancel_open
from app.store.schedules import decisions as store
from app.store.schedules import schedule_rows
from app.store.schedules.decisions import DueQuery, DueSchedule, RecordedDecision
from app.store.schedules.schedule_rows import TickDecision

SLICE_SECONDS = 0.002  # seconds of deciding before yielding to the event loop
THREAD_ABOVE_TICKS = 200  # due ticks of one schedule above which it is decided in a thread

_log = log.logger(__name__)


@dataclass(slots=True)
class BatchResult:
    """The result of one batch: the number of schedules `found`, and the runs it created.

    `undecidable`: marks of schedules that failed. The caller excludes them from the next batch, or
    they would be selected again without end.
    """

    found: int = 0
    queued: list[QueuedRun] = field(default_factory=list[QueuedRun])
    undecidable: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class _Case:
    """A schedule row, parsed. `late`: its first due tick, if deciding it needs heartbeats."""

    row: DueSchedule
    schedule: Schedule
    policies: Policies
    late: datetime | None


@dataclass(frozen=True, slots=True)
class _Context:
    """What deciding needs besides the schedules: the time, open runs and heartbeats."""

    now: datetime
    open_runs: dict[int, list[OpenRun]]
    beats: Sequence[AliveSpan]


async def decide_due(pool: Pool, due: DueQuery) -> BatchResult:
    """Decide every tick of the schedules that are due, in one transaction.

    Schedules locked by another worker are skipped. A schedule that cannot be decided does not stop
    the others: it is logged and listed in `Batch.undecidable`.
    """
    try:
        return await _decide_together(pool, due)
    except UNAVAILABLE:
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("batch.undecidable", limit=due.limit)
        return await _decide_one_by_one(pool, due)


async def _decide_together(pool: Pool, due: DueQuery) -> BatchResult:
    batch, slices = BatchResult(), _Slices()
    async with pool.acquire() as connection, connection.transaction():
        rows = await store.lock(connection, due)
        batch.found = len(rows)
        cases = await _read(rows, due.now, batch, slices)
        if cases:
            context = await _context(connection, cases, due.now)
            made = await _decide_cases(connection, cases, context, batch)
            await _write(connection, made, due.now)
            batch.queued = [
                QueuedRun(tick.run_id, one.row.job)
                for one in made
                for tick in one.decision.ticks
                if tick.run_id is not None
            ]
            _log_decisions(made)
    return batch


async def _decide_one_by_one(pool: Pool, due: DueQuery) -> BatchResult:
    """Decide each schedule in its own transaction, after the shared transaction failed."""
    batch = BatchResult()
    for mark, key in await store.due_keys(pool, due):
        batch.found += 1
        try:
            batch.queued += await edit.decide_schedule(pool, key, due.now)
        except UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001 - logged, with its traceback unless it is expected
            _note_undecidable(batch, mark, key, error)
    return batch


def _note_undecidable(batch: BatchResult, mark: str, key: str, error: Exception) -> None:
    exc_info = None if isinstance(error, BadSchedule) else error
    _log.error("schedule.undecidable", schedule=key, error=str(error), exc_info=exc_info)
    batch.undecidable.append(mark)


class _Slices:
    """Yields to the event loop after every `SLICE_SECONDS` seconds of deciding."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def checkpoint(self) -> None:
        if time.perf_counter() - self._since > SLICE_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


async def _read(
    rows: Sequence[DueSchedule], now: datetime, batch: BatchResult, slices: _Slices
) -> list[_Case]:
    cases: list[_Case] = []
    for row in rows:
        await slices.checkpoint()
        try:
            cases.append(_case(row, now))
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, row.version_key, row.key, error)
    return cases


def _case(row: DueSchedule, now: datetime) -> _Case:
    policies = _policies(row.policies)
    schedule = replace(_schedule(row.spec, policies.jitter), name=row.key)
    return _Case(
        row, schedule, policies, first_due_if_late(schedule, policies, row.evaluated_through, now)
    )


@lru_cache(maxsize=1024)
def _policies(spec: str) -> Policies:
    return Policies.from_spec(json.loads(spec))


@lru_cache(maxsize=4096)
def _schedule(spec: str, jitter: timedelta) -> Schedule:
    schedule = Schedule.from_spec(json.loads(spec))
    return schedule.with_jitter(jitter) if jitter else schedule


async def _context(connection: Connection, cases: Sequence[_Case], now: datetime) -> _Context:
    late = [case.late for case in cases if case.late is not None]
    return _Context(
        now=now,
        open_runs=await store.open_runs(connection, [case.row.id for case in cases]),
        beats=await schedule_rows.beats(connection, min(late)) if late else (),
    )


async def _decide_cases(
    connection: Connection, cases: Sequence[_Case], context: _Context, batch: BatchResult
) -> list[RecordedDecision]:
    made: list[RecordedDecision] = []
    cancelled: list[UUID] = []
    slices = _Slices()
    for case in cases:
        await slices.checkpoint()
        try:
            decision, writes = await _decide(case, context)
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, case.row.version_key, case.row.key, error)
            continue
        cancelled += decision.cancel
        made.append(RecordedDecision(case.row, writes))
    if cancelled:
        await cancel_open(connection, cancelled, context.now, by="overlap policy cancel_running")
    return made


async def _decide(case: _Case, context: _Context) -> tuple[Decision, TickDecision]:
    if case.late is not None and _is_long(case, case.late, context.now):
        return await asyncio.to_thread(_decide_one, case, context)
    return _decide_one(case, context)


def _is_long(case: _Case, first: datetime, now: datetime) -> bool:
    """Estimate from the first gap whether more than `THREAD_ABOVE_TICKS` ticks are due."""
    return now - first > THREAD_ABOVE_TICKS * (case.schedule.next(first) - first)


def _decide_one(case: _Case, context: _Context) -> tuple[Decision, TickDecision]:
    row, late = case.row, case.late
    situation = DecisionInput(
        schedule=case.schedule,
        policies=case.policies,
        frontier=row.evaluated_through,
        now=context.now,
        paused_at=row.paused_at,
        enabled=row.enabled,
        open_runs=context.open_runs.get(row.id, ()),
        beats=[beat for beat in context.beats if beat.until >= late] if late else (),
    )
    decision = decide(situation)
    return decision, tick_decision(decision, case.schedule, case.policies, context.now)


async def _write(connection: Connection, made: Sequence[RecordedDecision], now: datetime) -> None:
    await store.record(connection, made, now)
    last_ticks = [
        (one.row, one.decision.ticks[-1])
        for one in made
        if one.decision.ticks and one.decision.ticks[-1].outcome is not TickOutcome.RAN
    ]
    await store.compress(connection, last_ticks, now, MAX_REPEATED_TICKS)


def _log_decisions(made: Sequence[RecordedDecision]) -> None:
    counts: Counter[tuple[TickOutcome, TickReason | None]] = Counter()
    for one in made:
        counts.update((tick.outcome, tick.reason) for tick in one.decision.ticks)
        for gap in one.decision.gaps:
            counts[gap.outcome, gap.reason] += gap.count
    for (outcome, reason), count in counts.items():
        log_at = _log.warning if outcome is TickOutcome.MISSED else _log.info
        log_at(
            "ticks.decided",
            schedules=len(made),
            outcome=outcome.value,
            reason=reason and reason.value,
            count=count,
        )
