"""The ledger in bulk: organisations' schedules, decided many to a transaction."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from app import ledger, log
from app.errors import BadSchedule
from app.ledger import Queued
from app.scheduling.policies import Policies
from app.scheduling.policy import Beat, Decision, Open, Situation, decide
from app.scheduling.schedule import Schedule
from app.store import batches as store
from app.store import schedules
from app.store.batches import Due, DueRow, Made
from app.store.db import AWAY, Connection, Pool
from app.store.runs import cancel_open
from app.store.schedules import Verdict
from app.verdicts import MOST_ALIKE, first_due, verdict
from app.words import TickOutcome, TickReason

SLICE = 0.002  # seconds of deciding after which others get their turn
MANY = 200  # due ticks of one schedule; more are decided in a thread

_log = log.logger(__name__)


@dataclass(slots=True)
class Batch:
    """What one batch did: how many schedules it `found`, what it queued, whom it could not read.

    `undecidable`: their marks, for the caller to put aside; else they would be found for ever.
    """

    found: int = 0
    queued: list[Queued] = field(default_factory=list[Queued])
    undecidable: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class _Case:
    """A schedule that was read. `late`: its first tick, if it matters who was alive then."""

    row: DueRow
    schedule: Schedule
    policies: Policies
    late: datetime | None


@dataclass(frozen=True, slots=True)
class _World:
    """What is known beside the schedules themselves."""

    now: datetime
    open_runs: dict[int, list[Open]]
    beats: Sequence[Beat]


async def decide_due(pool: Pool, due: Due) -> Batch:
    """Decide every tick of the schedules that are due, in one transaction.

    Those which another worker is deciding are left to it. One that cannot be decided does not
    stop the others: it is logged, and named in the answer.
    """
    try:
        return await _together(pool, due)
    except AWAY:
        raise
    except Exception:  # noqa: BLE001 - logged with its traceback
        _log.exception("batch.undecidable", limit=due.limit)
        return await _one_by_one(pool, due)


async def _together(pool: Pool, due: Due) -> Batch:
    batch, turns = Batch(), _Turns()
    async with pool.acquire() as connection, connection.transaction():
        rows = await store.lock(connection, due)
        batch.found = len(rows)
        cases = await _read(rows, due.now, batch, turns)
        if cases:
            world = await _world(connection, cases, due.now)
            made = await _decided(connection, cases, world, batch)
            await _write(connection, made, due.now)
            batch.queued = [
                Queued(tick.run_id, one.row.job)
                for one in made
                for tick in one.verdict.ticks
                if tick.run_id is not None
            ]
            _tell(made)
    return batch


async def _one_by_one(pool: Pool, due: Due) -> Batch:
    """The slow way, when one of the schedules spoils what is written of all."""
    batch = Batch()
    for mark, key in await store.keys(pool, due):
        batch.found += 1
        try:
            batch.queued += await ledger.ring(pool, key, due.now)
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - logged, with its traceback if it is a surprise
            _undecidable(batch, mark, key, error)
    return batch


def _undecidable(batch: Batch, mark: str, key: str, error: Exception) -> None:
    surprise = None if isinstance(error, BadSchedule) else error
    _log.error("schedule.undecidable", schedule=key, error=str(error), exc_info=surprise)
    batch.undecidable.append(mark)


class _Turns:
    """Deciding in slices, so that the loop goes on beside it."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def take(self) -> None:
        if time.perf_counter() - self._since > SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


async def _read(rows: Sequence[DueRow], now: datetime, batch: Batch, turns: _Turns) -> list[_Case]:
    cases: list[_Case] = []
    for row in rows:
        await turns.take()
        try:
            cases.append(_case(row, now))
        except Exception as error:  # noqa: BLE001 - as above
            _undecidable(batch, row.mark, row.key, error)
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


async def _world(connection: Connection, cases: Sequence[_Case], now: datetime) -> _World:
    late = [case.late for case in cases if case.late is not None]
    return _World(
        now=now,
        open_runs=await store.open_runs(connection, [case.row.id for case in cases]),
        beats=await schedules.beats(connection, min(late)) if late else (),
    )


async def _decided(
    connection: Connection, cases: Sequence[_Case], world: _World, batch: Batch
) -> list[Made]:
    made: list[Made] = []
    gives_way: list[UUID] = []
    turns = _Turns()
    for case in cases:
        await turns.take()
        try:
            decision, written = await _decide(case, world)
        except Exception as error:  # noqa: BLE001 - as above
            _undecidable(batch, case.row.mark, case.row.key, error)
            continue
        gives_way += decision.cancel
        made.append(Made(case.row, written))
    if gives_way:
        await cancel_open(connection, gives_way, world.now, by="overlap policy cancel_running")
    return made


async def _decide(case: _Case, world: _World) -> tuple[Decision, Verdict]:
    if case.late is not None and _is_long(case, case.late, world.now):
        return await asyncio.to_thread(_decide_one, case, world)
    return _decide_one(case, world)


def _is_long(case: _Case, first: datetime, now: datetime) -> bool:
    return now - first > MANY * (case.schedule.next(first) - first)


def _decide_one(case: _Case, world: _World) -> tuple[Decision, Verdict]:
    row, late = case.row, case.late
    situation = Situation(
        schedule=case.schedule,
        policies=case.policies,
        frontier=row.evaluated_through,
        now=world.now,
        paused_at=row.paused_at,
        enabled=row.enabled,
        open_runs=world.open_runs.get(row.id, ()),
        beats=[beat for beat in world.beats if beat.until >= late] if late else (),
    )
    decision = decide(situation)
    return decision, verdict(decision, case.schedule, case.policies, world.now)


async def _write(connection: Connection, made: Sequence[Made], now: datetime) -> None:
    await store.record(connection, made, now)
    lasts = [
        (one.row, one.verdict.ticks[-1])
        for one in made
        if one.verdict.ticks and one.verdict.ticks[-1].outcome is not TickOutcome.RAN
    ]
    await store.compress(connection, lasts, now, MOST_ALIKE)


def _tell(made: Sequence[Made]) -> None:
    counts: Counter[tuple[TickOutcome, TickReason | None]] = Counter()
    for one in made:
        counts.update((tick.outcome, tick.reason) for tick in one.verdict.ticks)
        for gap in one.verdict.gaps:
            counts[gap.outcome, gap.reason] += gap.count
    for (outcome, reason), count in counts.items():
        tell = _log.warning if outcome is TickOutcome.MISSED else _log.info
        tell(
            "ticks.decided",
            schedules=len(made),
            outcome=outcome.value,
            reason=reason and reason.value,
            count=count,
        )
