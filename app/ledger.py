"""The ledger: what became of every tick. One transaction under the schedule's row lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from app import log
from app.errors import UnknownJob
from app.scheduling.policies import Policies
from app.scheduling.policy import Decision, Situation, decide
from app.scheduling.schedule import Schedule
from app.store import registry, schedules
from app.store.db import Connection, Pool
from app.store.runs import cancel_open
from app.store.schedules import ScheduleState
from app.verdicts import MOST_ALIKE, first_due, verdict
from app.words import TickOutcome

_INSTANT = timedelta(microseconds=1)

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Queued:
    """A run that waits to be told to Redis: `run:<run_id>:<attempt>`."""

    run_id: UUID
    job: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Declared:
    """A schedule as code declares it. `key` is its name for ever."""

    key: str
    job: str
    schedule: Schedule
    policies: Policies
    enabled: bool = True
    org_id: UUID | None = None


async def ring(pool: Pool, key: str, now: datetime) -> list[Queued]:
    """Decide every tick of one schedule that is due by `now`; return the runs it queued.

    A ring that comes twice, late or never changes nothing: what is decided is decided.
    """
    queued: list[Queued] = []
    complete = False
    while not complete:
        async with pool.acquire() as connection, connection.transaction():
            state = await schedules.lock(connection, key)
            if state is None:
                return queued
            complete = await _decide(connection, state, now, queued)
    return queued


async def _decide(
    connection: Connection, state: ScheduleState, now: datetime, queued: list[Queued]
) -> bool:
    if state.retired_at is not None or (state.due_at is not None and state.due_at > now):
        return True
    policies = Policies.from_spec(state.policies)
    schedule = policies.spread(Schedule.from_spec(state.spec, name=state.key))
    decision = decide(await _situation(connection, state, schedule, policies, now))
    if not decision.outcomes:
        return True
    if decision.cancel:
        await cancel_open(connection, decision.cancel, now, by="overlap policy cancel_running")
    made = verdict(decision, schedule, policies, now)
    await schedules.record(connection, state, made)
    queued += [Queued(t.run_id, state.job) for t in made.ticks if t.run_id is not None]
    if made.ticks and made.ticks[-1].outcome is not TickOutcome.RAN:
        await schedules.compress(connection, state, made.ticks[-1], now, MOST_ALIKE)
    _tell(state, decision)
    return decision.complete


async def _situation(
    connection: Connection,
    state: ScheduleState,
    schedule: Schedule,
    policies: Policies,
    now: datetime,
) -> Situation:
    late = first_due(schedule, policies, state.evaluated_through, now)
    return Situation(
        schedule=schedule,
        policies=policies,
        frontier=state.evaluated_through,
        now=now,
        paused_at=state.paused_at,
        enabled=state.enabled,
        open_runs=await schedules.open_runs(connection, state.id),
        # Only a late tick asks who was alive: the ordinary one is spared the question.
        beats=await schedules.beats(connection, late) if late else (),
    )


def _tell(state: ScheduleState, decision: Decision) -> None:
    for (outcome, reason), alike in groupby(decision.outcomes, key=lambda o: (o.outcome, o.reason)):
        decided = list(alike)
        tell = _log.warning if outcome is TickOutcome.MISSED else _log.info
        tell(
            "tick.decided",
            schedule=state.key,
            outcome=outcome.value,
            reason=reason and reason.value,
            tick=decided[-1].tick.isoformat(),
            count=len(decided),
        )


async def register(pool: Pool, declared: Sequence[Declared], now: datetime) -> list[Queued]:
    """Write code-declared schedules down; a changed one gets a new version from now on.

    What was due before the change is decided by the old wording first, so nothing is lost.
    """
    queued: list[Queued] = []
    for wanted in declared:
        queued += await edit(pool, wanted, now)
    return queued


async def edit(pool: Pool, wanted: Declared, now: datetime) -> list[Queued]:
    """Create the schedule or bring it to `wanted`; returns runs that were due before the edit."""
    async with pool.acquire() as connection, connection.transaction():
        return await edit_in(connection, wanted, now)


async def edit_in(connection: Connection, wanted: Declared, now: datetime) -> list[Queued]:
    """As `edit`, within the caller's transaction; a retired schedule lives again."""
    queued: list[Queued] = []
    state = await schedules.lock(connection, wanted.key)
    if state is None:
        await registry.create(connection, _wording(wanted, now))
        # Another worker may have been quicker, with another wording.
        state = await schedules.lock(connection, wanted.key)
    if state is None:
        return queued
    state = await _decide_all(connection, state, now, queued)
    since = max(now, state.evaluated_through)
    if state.retired_at is not None:
        await _revive(connection, state, wanted, since)
    elif (state.spec, state.policies, state.enabled) != (
        wanted.schedule.to_spec(),
        wanted.policies.to_spec(),
        wanted.enabled,
    ):
        await _replace(connection, state, wanted, since)
    return queued


async def _decide_all(
    connection: Connection, state: ScheduleState, now: datetime, queued: list[Queued]
) -> ScheduleState:
    while not await _decide(connection, state, now, queued):
        state = await schedules.lock(connection, state.key) or state
    return await schedules.lock(connection, state.key) or state


async def retire_in(connection: Connection, key: str, now: datetime) -> list[Queued]:
    """End a schedule within the caller's transaction; what it has announced is superseded.

    Returns runs that were due before. Raises UnknownJob if there is no such schedule, or no more.
    """
    queued: list[Queued] = []
    state = await schedules.lock(connection, key)
    if state is None or state.retired_at is not None:
        raise UnknownJob(f"there is no schedule {key!r}")
    state = await _decide_all(connection, state, now, queued)
    old = Schedule.from_spec(state.spec, name=state.key)
    answers_until = max(now, old.next(state.evaluated_through))
    superseded = tuple(old.ticks(state.evaluated_through, answers_until))
    await registry.retire(connection, state, superseded, answers_until, now)
    _log.info("schedule.retired", schedule=key, version=state.version)
    return queued


async def _revive(
    connection: Connection, state: ScheduleState, wanted: Declared, since: datetime
) -> None:
    taken_up = await _named_again(connection, state, wanted, since)
    await registry.reopen(connection, state, _wording(wanted, since))
    await registry.take_up(connection, state.id, taken_up)
    _log.info("schedule.revived", schedule=state.key, version=state.version + 1)


async def _named_again(
    connection: Connection, state: ScheduleState, wanted: Declared, since: datetime
) -> list[datetime]:
    ahead = await registry.superseded_ahead(connection, state.id, since)
    return [instant for instant in ahead if _names(wanted.schedule, instant)]


async def _replace(
    connection: Connection, state: ScheduleState, wanted: Declared, since: datetime
) -> None:
    old = Schedule.from_spec(state.spec, name=state.key)
    since = _taken_over(old, wanted.schedule, state.evaluated_through, since)
    wording = _wording(wanted, since)
    if (state.spec, state.policies) == (wording.spec, wording.policies):
        await registry.enable(connection, state.id, enabled=wanted.enabled)
        return
    announced = old.next(state.evaluated_through)
    # The old wording had announced its next tick: it answers for it, unless the new one names it.
    still_named = announced <= since or _names(wanted.schedule, announced)
    answers_until = since if still_named else announced
    taken_up = await _named_again(connection, state, wanted, since)
    await registry.take_up(connection, state.id, taken_up)
    superseded = tuple(old.ticks(state.evaluated_through, answers_until))
    await registry.supersede(connection, state, wording, superseded, answers_until)
    _log.info("schedule.edited", schedule=state.key, version=state.version + 1)


def _taken_over(old: Schedule, new: Schedule, frontier: datetime, since: datetime) -> datetime:
    """From when on the new wording answers: it takes over a tick that waits for its jitter.

    But for such a tick it would name instants that are past, which nobody has announced.
    """
    waiting = list(old.ticks(frontier, since))
    before = waiting[0] - _INSTANT if waiting else since
    return before if list(new.ticks(before, since)) == waiting else since


def _names(schedule: Schedule, instant: datetime) -> bool:
    return schedule.next(instant - _INSTANT) == instant


def _wording(wanted: Declared, since: datetime) -> registry.Wording:
    schedule = wanted.policies.spread(wanted.schedule)
    upcoming = schedule.next(since)
    return registry.Wording(
        key=wanted.key,
        job=wanted.job,
        spec=wanted.schedule.to_spec(),
        policies=wanted.policies.to_spec(),
        enabled=wanted.enabled,
        since=since,
        next_tick_at=upcoming,
        due_at=schedule.starts_at(upcoming),
        org_id=wanted.org_id,
    )


async def pause(pool: Pool, key: str, now: datetime, *, by: str, note: str) -> list[Queued]:
    """Pause a schedule from now on; its ticks are recorded `skipped(paused)` until it is resumed.

    Returns runs that were due before. Raises UnknownJob if there is no such schedule.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await pause_in(connection, key, registry.Pause(now, by, note))


async def resume(pool: Pool, key: str, now: datetime) -> list[Queued]:
    """Let a paused schedule go on; every tick that fell into the pause is recorded first.

    Returns no runs but those that were due. Raises UnknownJob if there is no such schedule.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await resume_in(connection, key, now)


async def pause_in(connection: Connection, key: str, pause_: registry.Pause) -> list[Queued]:
    """As `pause`, within the caller's transaction."""
    return await _turn(connection, key, pause_.at, pause_)


async def resume_in(connection: Connection, key: str, now: datetime) -> list[Queued]:
    """As `resume`, within the caller's transaction."""
    return await _turn(connection, key, now, None)


async def _turn(
    connection: Connection, key: str, now: datetime, pause_: registry.Pause | None
) -> list[Queued]:
    queued: list[Queued] = []
    state = await schedules.lock(connection, key)
    if state is None:
        raise UnknownJob(f"there is no schedule {key!r}")
    await _decide_all(connection, state, now, queued)
    await registry.set_pause(connection, key, pause_)
    _log.info("schedule.paused" if pause_ else "schedule.resumed", schedule=key)
    return queued
