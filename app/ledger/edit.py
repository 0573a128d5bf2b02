"""Edits schedules: creates, changes, retires, revives, pauses and resumes them.

Each operation is one transaction under the schedule's row lock, and decides what is due first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.core import log
from app.core.errors import UnknownJob
from app.ledger.decide import decide_all
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection, Pool
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import schedule_rows, schedule_versions
from app.store.schedules.schedule_rows import ScheduleState

_INSTANT = timedelta(microseconds=1)

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """A schedule as declared in code or by a recipe. `key` is its permanent name."""

    key: str
    job: str
    schedule: Schedule
    policies: Policies
    enabled: bool = True
    org_id: UUID | None = None


async def register(
    pool: Pool, declared: Sequence[DeclaredSchedule], now: datetime
) -> list[QueuedRun]:
    """Store the declared schedules; a changed one gets a new version from `now` on.

    Ticks that were due before the change are decided under the old version first. Returns the
    runs created for them.
    """
    queued: list[QueuedRun] = []
    for each in declared:
        queued += await edit(pool, each, now)
    return queued


async def edit(pool: Pool, wanted: DeclaredSchedule, now: datetime) -> list[QueuedRun]:
    """Create the schedule or change it to `wanted`; return the runs of ticks due before."""
    async with pool.acquire() as connection, connection.transaction():
        return await edit_in(connection, wanted, now)


async def edit_in(
    connection: Connection, wanted: DeclaredSchedule, now: datetime
) -> list[QueuedRun]:
    """Do the same as `edit` in the caller's transaction. A retired schedule is reopened."""
    queued: list[QueuedRun] = []
    state = await schedule_rows.lock(connection, wanted.key)
    if state is None:
        await schedule_versions.create(connection, _version(wanted, now))
        # Another worker may have created it first, with another declaration.
        state = await schedule_rows.lock(connection, wanted.key)
    if state is None:
        return queued
    state = await decide_all(connection, state, now, queued)
    since = max(now, state.evaluated_through)
    if state.retired_at is not None:
        await _reopen(connection, state, wanted, since)
    elif (state.spec, state.policies, state.enabled) != (
        wanted.schedule.to_spec(),
        wanted.policies.to_spec(),
        wanted.enabled,
    ):
        await _replace(connection, state, wanted, since)
    return queued


async def retire_in(connection: Connection, key: str, now: datetime) -> list[QueuedRun]:
    """Retire a schedule in the caller's transaction; its announced next tick is superseded.

    Returns the runs of ticks due before `now`. Raises UnknownJob if the schedule does not exist or
    is retired already.
    """
    queued: list[QueuedRun] = []
    state = await schedule_rows.lock(connection, key)
    if state is None or state.retired_at is not None:
        raise UnknownJob(f"there is no schedule {key!r}")
    state = await decide_all(connection, state, now, queued)
    old = Schedule.from_spec(state.spec, name=state.key)
    valid_until = max(now, old.next(state.evaluated_through))
    superseded = tuple(old.ticks(state.evaluated_through, valid_until))
    await schedule_versions.retire(connection, state, superseded, valid_until, now)
    _log.info("schedule.retired", schedule=key, version=state.version)
    return queued


async def _reopen(
    connection: Connection, state: ScheduleState, wanted: DeclaredSchedule, since: datetime
) -> None:
    reinstated = await _reinstated(connection, state, wanted, since)
    await schedule_versions.reopen(connection, state, _version(wanted, since))
    await schedule_versions.reopen_ticks(connection, state.id, reinstated)
    _log.info("schedule.revived", schedule=state.key, version=state.version + 1)


async def _reinstated(
    connection: Connection, state: ScheduleState, wanted: DeclaredSchedule, since: datetime
) -> list[datetime]:
    """Return the superseded ticks after `since` that are ticks of the wanted schedule as well."""
    ahead = await schedule_versions.superseded_ahead(connection, state.id, since)
    return [instant for instant in ahead if _is_tick(wanted.schedule, instant)]


async def _replace(
    connection: Connection, state: ScheduleState, wanted: DeclaredSchedule, since: datetime
) -> None:
    old = Schedule.from_spec(state.spec, name=state.key)
    since = _effective_from(old, wanted.schedule, state.evaluated_through, since)
    version = _version(wanted, since)
    if (state.spec, state.policies) == (version.spec, version.policies):
        await schedule_versions.set_enabled(connection, state.id, enabled=wanted.enabled)
        return
    announced = old.next(state.evaluated_through)
    # The old version stays valid through its announced next tick, unless the new one has that tick.
    still_announced = announced <= since or _is_tick(wanted.schedule, announced)
    valid_until = since if still_announced else announced
    reinstated = await _reinstated(connection, state, wanted, since)
    await schedule_versions.reopen_ticks(connection, state.id, reinstated)
    superseded = tuple(old.ticks(state.evaluated_through, valid_until))
    await schedule_versions.supersede(connection, state, version, superseded, valid_until)
    _log.info("schedule.edited", schedule=state.key, version=state.version + 1)


def _effective_from(old: Schedule, new: Schedule, frontier: datetime, since: datetime) -> datetime:
    """Return the instant from which the new version is valid.

    That is just before a tick that still waits for its jitter, if both versions have the same ticks
    up to `since`; else `since`, so that the new version has no ticks in the past.
    """
    waiting = list(old.ticks(frontier, since))
    before = waiting[0] - _INSTANT if waiting else since
    return before if list(new.ticks(before, since)) == waiting else since


def _is_tick(schedule: Schedule, instant: datetime) -> bool:
    return schedule.next(instant - _INSTANT) == instant


def _version(wanted: DeclaredSchedule, since: datetime) -> schedule_versions.ScheduleVersion:
    schedule = wanted.policies.apply_jitter(wanted.schedule)
    upcoming = schedule.next(since)
    return schedule_versions.ScheduleVersion(
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


async def pause(pool: Pool, key: str, now: datetime, *, by: str, note: str) -> list[QueuedRun]:
    """Pause a schedule from `now` on; its ticks are recorded `skipped(paused)` until it is resumed.

    Returns the runs of ticks due before `now`. Raises UnknownJob if there is no such schedule.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await pause_in(connection, key, schedule_versions.SchedulePause(now, by, note))


async def resume(pool: Pool, key: str, now: datetime) -> list[QueuedRun]:
    """Resume a paused schedule; every tick of the pause is recorded first.

    Returns the runs of ticks that were due. Raises UnknownJob if there is no such schedule.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await resume_in(connection, key, now)


async def pause_in(
    connection: Connection, key: str, pause_: schedule_versions.SchedulePause
) -> list[QueuedRun]:
    """Do the same as `pause` in the caller's transaction."""
    return await _set_pause(connection, key, pause_.at, pause_)


async def resume_in(connection: Connection, key: str, now: datetime) -> list[QueuedRun]:
    """Do the same as `resume` in the caller's transaction."""
    return await _set_pause(connection, key, now, None)


async def _set_pause(
    connection: Connection, key: str, now: datetime, pause_: schedule_versions.SchedulePause | None
) -> list[QueuedRun]:
    queued: list[QueuedRun] = []
    state = await schedule_rows.lock(connection, key)
    if state is None:
        raise UnknownJob(f"there is no schedule {key!r}")
    await decide_all(connection, state, now, queued)
    await schedule_versions.set_pause(connection, key, pause_)
    _log.info("schedule.paused" if pause_ else "schedule.resumed", schedule=key)
    return queued
