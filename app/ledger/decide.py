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
from app.ledger.edit import Queued
from app.ledger.outcomes import MOST_ALIKE, first_due, verdict
from app.scheduling.policies import Policies
from app.scheduling.policy import Beat, Decision, Open, Situation, decide
from app.scheduling.schedule import Schedule
from app.store.db import AWAY, Connection, Pool
from app.store.runs.run_rows import cancel_open
from app.store.schedules import decisions as store
from app.store.schedules import schedule_rows
from app.store.schedules.decisions import Due, DueRow, Made
from app.store.schedules.schedule_rows import Verdict

SLICE = 0.002  # seconds of deciding before yielding to the event loop
MANY = 200  # due ticks of one schedule above which it is decided in a thread

_log = log.logger(__name__)


@dataclass(slots=True)
class Batch:
    """The result of one batch: the number of schedules `found`, and the runs it created.

    `undecidable`: marks of schedules that failed. The caller excludes them from the next batch, or
    they would be selected again without end.
    """

    found: int = 0
    queued: list[Queued] = field(default_factory=list[Queued])
    undecidable: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class _Case:
    """A schedule row, parsed. `late`: its first due tick, if deciding it needs heartbeats."""

    row: DueRow
    schedule: Schedule
    policies: Policies
    late: datetime | None


@dataclass(frozen=True, slots=True)
class _Context:
    """What deciding needs besides the schedules: the time, open runs and heartbeats."""

    now: datetime
    open_runs: dict[int, list[Open]]
    beats: Sequence[Beat]


async def decide_due(pool: Pool, due: Due) -> Batch:
    """Decide every tick of the schedules that are due, in one transaction.

    Schedules locked by another worker are skipped. A schedule that cannot be decided does not stop
    the others: it is logged and listed in `Batch.undecidable`.
    """
    try:
        return await _decide_together(pool, due)
    except AWAY:
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("batch.undecidable", limit=due.limit)
        return await _decide_one_by_one(pool, due)


async def _decide_together(pool: Pool, due: Due) -> Batch:
    batch, slices = Batch(), _Slices()
    async with pool.acquire() as connection, connection.transaction():
        rows = await store.lock(connection, due)
        batch.found = len(rows)
        cases = await _read(rows, due.now, batch, slices)
        if cases:
            context = await _context(connection, cases, due.now)
            made = await _decide_cases(connection, cases, context, batch)
            await _write(connection, made, due.now)
            batch.queued = [
                Queued(tick.run_id, one.row.job)
                for one in made
                for tick in one.verdict.ticks
                if tick.run_id is not None
            ]
            _log_decisions(made)
    return batch


async def _decide_one_by_one(pool: Pool, due: Due) -> Batch:
    """Decide each schedule in its own transaction, after the shared transaction failed."""
    batch = Batch()
    for mark, key in await store.keys(pool, due):
        batch.found += 1
        try:
            batch.queued += await edit.ring(pool, key, due.now)
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - logged, with its traceback unless it is expected
            _note_undecidable(batch, mark, key, error)
    return batch


def _note_undecidable(batch: Batch, mark: str, key: str, error: Exception) -> None:
    exc_info = None if isinstance(error, BadSchedule) else error
    _log.error("schedule.undecidable", schedule=key, error=str(error), exc_info=exc_info)
    batch.undecidable.append(mark)


class _Slices:
    """Yields to the event loop after every `SLICE` seconds of deciding."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def checkpoint(self) -> None:
        if time.perf_counter() - self._since > SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


async def _read(
    rows: Sequence[DueRow], now: datetime, batch: Batch, slices: _Slices
) -> list[_Case]:
    cases: list[_Case] = []
    for row in rows:
        await slices.checkpoint()
        try:
            cases.append(_case(row, now))
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, row.mark, row.key, error)
    return cases


def _case(row: DueRow, now: datetime) -> _Case:
    policies = _policies(row.policies)
    schedule = replace(_schedule(row.spec, policies.jitter), name=row.key)
    return _Case(row, schedule, policies, first_due(schedule, policies, row.evaluated_through, now))


@lru_cache(maxsize=1024)
def _policies(spec: str) -> Policies:
    return Policies.from_spec(json.loads(spec))


@lru_cache(maxsize=4096)
def _schedule(spec: str, jitter: timedelta) -> Schedule:
    schedule = Schedule.from_spec(json.loads(spec))
    return schedule.jittered(jitter) if jitter else schedule


async def _context(connection: Connection, cases: Sequence[_Case], now: datetime) -> _Context:
    late = [case.late for case in cases if case.late is not None]
    return _Context(
        now=now,
        open_runs=await store.open_runs(connection, [case.row.id for case in cases]),
        beats=await schedule_rows.beats(connection, min(late)) if late else (),
    )


async def _decide_cases(
    connection: Connection, cases: Sequence[_Case], context: _Context, batch: Batch
) -> list[Made]:
    made: list[Made] = []
    cancelled: list[UUID] = []
    slices = _Slices()
    for case in cases:
        await slices.checkpoint()
        try:
            decision, writes = await _decide(case, context)
        except Exception as error:  # noqa: BLE001 - logged by _note_undecidable
            _note_undecidable(batch, case.row.mark, case.row.key, error)
            continue
        cancelled += decision.cancel
        made.append(Made(case.row, writes))
    if cancelled:
        await cancel_open(connection, cancelled, context.now, by="overlap policy cancel_running")
    return made


async def _decide(case: _Case, context: _Context) -> tuple[Decision, Verdict]:
    if case.late is not None and _is_long(case, case.late, context.now):
        return await asyncio.to_thread(_decide_one, case, context)
    return _decide_one(case, context)


def _is_long(case: _Case, first: datetime, now: datetime) -> bool:
    """Estimate from the first gap whether more than `MANY` ticks are due."""
    return now - first > MANY * (case.schedule.next(first) - first)


def _decide_one(case: _Case, context: _Context) -> tuple[Decision, Verdict]:
    row, late = case.row, case.late
    situation = Situation(
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
    return decision, verdict(decision, case.schedule, case.policies, context.now)


async def _write(connection: Connection, made: Sequence[Made], now: datetime) -> None:
    await store.record(connection, made, now)
    last_ticks = [
        (one.row, one.verdict.ticks[-1])
        for one in made
        if one.verdict.ticks and one.verdict.ticks[-1].outcome is not TickOutcome.RAN
    ]
    await store.compress(connection, last_ticks, now, MOST_ALIKE)


def _log_decisions(made: Sequence[Made]) -> None:
    counts: Counter[tuple[TickOutcome, TickReason | None]] = Counter()
    for one in made:
        counts.update((tick.outcome, tick.reason) for tick in one.verdict.ticks)
        for gap in one.verdict.gaps:
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
