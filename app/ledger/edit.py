"""Edits schedules: creates, changes, retires, revives, pauses and resumes them.

Each operation is one transaction under the schedule's row lock, and decides what is due first.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from app.core import log
from app.core.enums import VersionReason
from app.core.errors import BadSchedule, UnknownJob, WrongState
from app.core.zone_data import same_data
from app.ledger.decide import decide_all
from app.ledger.outcomes import unreadable_decision
from app.ledger.stored_schedules import check_open, read_schedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection, Pool
from app.store.runs.run_rows import QueuedRun, cancel_open
from app.store.schedules import decisions, schedule_edits, schedule_rows, schedule_versions, zones
from app.store.schedules.schedule_rows import ScheduleState

_INSTANT = timedelta(microseconds=1)
PAUSE_ENDED = "rollcall (the pause ended)"  # the author of a resumption at the set time

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
    """Do the same as `edit` in the caller's transaction. A retired schedule is reopened.

    An unreadable one is replaced: the ticks that it held are recorded as `missed(unreadable)`.
    """
    queued: list[QueuedRun] = []
    state = await schedule_rows.lock(connection, wanted.key)
    schedule = wanted.policies.in_zone(wanted.schedule)
    wanted = replace(wanted, schedule=await _with_newest_zone_data(connection, schedule))
    if state is None:
        await schedule_versions.create(connection, _version(wanted, now, VersionReason.CREATED))
        # Another worker may have created it first, with another declaration.
        state = await schedule_rows.lock(connection, wanted.key)
    if state is None:
        return queued
    if state.retired_at is not None:
        await _reopen(connection, state, wanted, max(now, state.evaluated_through))
        return queued
    try:
        state = await decide_all(connection, state, now, queued)
        old = read_schedule(state)
    except BadSchedule as error:
        _log.warning("schedule.replaced_unreadable", schedule=state.key, error=str(error))
        await _replace_unreadable(connection, state, wanted, now)
        return queued
    # A spec without what its expression was read as is compared by what it is read as now.
    if (old.to_spec(), state.policies) != (wanted.schedule.to_spec(), wanted.policies.to_spec()):
        since = max(now, state.evaluated_through)
        since = _effective_from(old, wanted.schedule, state.evaluated_through, since)
        await _replace(connection, state, _version(wanted, since, VersionReason.EDITED))
    else:
        await _rederive(connection, state, wanted.schedule, now, queued)
        if state.enabled != wanted.enabled or wanted.org_id is not None:
            await schedule_versions.set_enabled(connection, state.id, enabled=wanted.enabled)
    return queued


async def disable(
    pool: Pool, key: str, now: datetime, *, why: str, unless: Callable[[str], Awaitable[bool]]
) -> bool:
    """Disable a schedule whose job no longer exists, from `now` on; return whether it did.

    Ticks that were due before are decided first, but none of them runs any more. `unless` is asked
    under the row lock that a worker which declares the schedule needs as well.
    """
    queued: list[QueuedRun] = []
    async with pool.acquire() as connection, connection.transaction():
        state = await schedule_rows.lock(connection, key)
        if state is None or not state.enabled or await unless(key):
            return False
        try:
            await decide_all(connection, state, now, queued)
        except BadSchedule as error:  # its ticks are held either way
            _log.warning("schedule.undecidable", schedule=key, error=str(error))
        await schedule_versions.set_enabled(connection, state.id, enabled=False)
        await cancel_open(connection, [run.run_id for run in queued], now, by=why)
    return True


async def rederive(pool: Pool, key: str, now: datetime) -> list[QueuedRun]:
    """Derive the upcoming ticks of a schedule anew if there is newer zone data than its own.

    Returns the runs of ticks that are due. Raises BadSchedule if the schedule is unreadable.
    """
    queued: list[QueuedRun] = []
    async with pool.acquire() as connection, connection.transaction():
        state = await schedule_rows.lock(connection, key)
        if state is not None and state.retired_at is None:
            state = await decide_all(connection, state, now, queued)
            schedule = await _with_newest_zone_data(connection, read_schedule(state))
            await _rederive(connection, state, schedule, now, queued)
    return queued


async def _with_newest_zone_data(connection: Connection, schedule: Schedule) -> Schedule:
    if schedule.timezone is None:
        return schedule
    return schedule.with_stamp(await zones.newest(connection, schedule.timezone))


async def _rederive(
    connection: Connection,
    state: ScheduleState,
    schedule: Schedule,
    now: datetime,
    queued: list[QueuedRun],
) -> None:
    """Make a new version for other zone data, which answers what the old one has not.

    Neither loses a tick: one whose instant moved into the past is decided at once. Nor does it
    invent one: a local time that was answered is not answered again at its new instant.
    """
    if schedule.stamp is None or schedule.stamp == state.zone_data:
        return
    policies = Policies.from_spec(state.policies)
    old, frontier = read_schedule(state), state.evaluated_through
    since = schedule.after_change(frontier, old)
    declared = DeclaredSchedule(state.key, state.job, schedule, policies)
    # `state.enabled` is also false while the organisation is disabled.
    version = replace(_version(declared, since, VersionReason.ZONE_DATA), enabled=None)
    if not state.zone_data or same_data(state.zone_data, schedule.stamp):
        upcoming = version.next_tick_at, version.due_at
        await zones.restamp(connection, state.id, state.version, schedule.stamp, upcoming)
        return
    await _replace(connection, state, version)
    _log.info("zone_data.changed", schedule=state.key, was=state.zone_data, now=schedule.stamp)
    changed = await schedule_rows.lock(connection, state.key)
    if changed is not None:
        await decide_all(connection, changed, now, queued)


async def _replace_unreadable(
    connection: Connection, state: ScheduleState, wanted: DeclaredSchedule, now: datetime
) -> None:
    """Replace a schedule whose own ticks cannot be derived.

    The old version ends at its frontier, but for the tick that it had announced. From there on the
    new one has its ticks; those up to `now` are recorded as `missed(unreadable)`.
    """
    frontier = state.evaluated_through
    version = _version(wanted, frontier, VersionReason.EDITED)
    await _close_unreadable(connection, state, _announced(state, wanted.schedule), now)
    await schedule_versions.reopen(connection, state, version)
    await schedule_versions.reopen_ticks(
        connection, state.id, await _reinstated(connection, state.id, wanted.schedule, frontier)
    )
    reopened = await schedule_rows.lock(connection, state.key)
    if reopened is not None:
        schedule = read_schedule(reopened, wanted.policies)
        held = unreadable_decision(reopened, schedule, wanted.policies, now)
        await decisions.record(connection, [held] if held else [], now)


def _announced(state: ScheduleState, new: Schedule | None) -> datetime | None:
    """Return the tick that an unreadable schedule had announced, unless the new one has it too."""
    announced = state.next_tick_at
    if announced is None or announced <= state.evaluated_through:
        return None
    return None if new is not None and _is_tick(new, announced) else announced


async def retire_in(connection: Connection, key: str, now: datetime) -> list[QueuedRun]:
    """Retire a schedule in the caller's transaction; its announced next tick is superseded.

    Returns the runs of ticks due before `now`. Raises UnknownJob if the schedule does not exist or
    is retired already.
    """
    queued: list[QueuedRun] = []
    missed: datetime | None = None
    state = await schedule_rows.lock(connection, key)
    if state is None or state.retired_at is not None:
        raise UnknownJob(f"there is no schedule {key!r}")
    try:
        state = await decide_all(connection, state, now, queued)
        old = read_schedule(state)
    except BadSchedule as error:
        _log.warning("schedule.retired_unreadable", schedule=key, error=str(error))
        missed = await _close_unreadable(connection, state, _announced(state, None), now)
    else:
        valid_until = max(now, old.next(state.evaluated_through))
        superseded = tuple(old.ticks(state.evaluated_through, valid_until))
        await schedule_versions.close(connection, state, superseded, valid_until, now)
    await schedule_versions.retire(connection, state.id, now, missed)
    _log.info("schedule.retired", schedule=key, version=state.version)
    return queued


async def _close_unreadable(
    connection: Connection, state: ScheduleState, announced: datetime | None, now: datetime
) -> datetime | None:
    """Close the version in force; returns its announced tick if that is missed."""
    missed = [announced] if announced is not None and announced <= now else []
    superseded = [announced] if announced is not None and announced > now else []
    until = announced or state.evaluated_through
    await schedule_versions.close(connection, state, superseded, until, now, missed)
    return missed[0] if missed else None


async def _reopen(
    connection: Connection, state: ScheduleState, wanted: DeclaredSchedule, since: datetime
) -> None:
    reinstated = await _reinstated(connection, state.id, wanted.schedule, since)
    await schedule_versions.reopen(
        connection, state, _version(wanted, since, VersionReason.REVIVED)
    )
    await schedule_versions.reopen_ticks(connection, state.id, reinstated)
    _log.info("schedule.revived", schedule=state.key, version=state.version + 1)


async def _reinstated(
    connection: Connection, schedule_id: int, wanted: Schedule, since: datetime
) -> list[datetime]:
    """Return the superseded ticks after `since` that are ticks of the wanted schedule as well."""
    ahead = await schedule_versions.superseded_ahead(connection, schedule_id, since)
    return [instant for instant in ahead if _is_tick(wanted, instant)]


async def _replace(
    connection: Connection, state: ScheduleState, version: schedule_versions.ScheduleVersion
) -> None:
    """Close the version in force and open another."""
    old, new = read_schedule(state), version.schedule
    announced = old.next(state.evaluated_through)
    # The old version stays valid through its announced next tick, unless the new one has that tick.
    still_announced = announced <= version.since or _is_tick(new, announced)
    valid_until = version.since if still_announced else announced
    reinstated = await _reinstated(connection, state.id, new, version.since)
    await schedule_versions.reopen_ticks(connection, state.id, reinstated)
    superseded = tuple(old.ticks(state.evaluated_through, valid_until))
    await schedule_versions.close(connection, state, superseded, valid_until, version.since)
    await schedule_versions.reopen(connection, state, version)
    _log.info(
        "schedule.edited", schedule=state.key, version=state.version + 1, reason=version.reason
    )


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


def _version(
    wanted: DeclaredSchedule, since: datetime, reason: VersionReason
) -> schedule_versions.ScheduleVersion:
    schedule = wanted.policies.apply_jitter(replace(wanted.schedule, name=wanted.key))
    upcoming = schedule.next(since)
    return schedule_versions.ScheduleVersion(
        key=wanted.key,
        job=wanted.job,
        schedule=wanted.schedule,
        policies=wanted.policies,
        enabled=wanted.enabled,
        since=since,
        next_tick_at=upcoming,
        due_at=schedule.starts_at(upcoming),
        reason=reason,
        org_id=wanted.org_id,
    )


async def pause(
    pool: Pool, key: str, now: datetime, *, by: str, note: str, until: datetime | None = None
) -> list[QueuedRun]:
    """Pause a schedule from `now` on; its ticks are recorded `skipped(paused)`.

    It is resumed by `resume`, or at `until`. Records who did it. Returns the runs of ticks due
    before `now`. Raises UnknownJob if there is no such schedule, and WrongState if it is retired
    or paused by somebody else, whose reason and end would be replaced unseen.
    """
    async with pool.acquire() as connection, connection.transaction():
        pause_ = schedule_versions.SchedulePause(now, by, note, until)
        queued = await pause_in(connection, key, pause_)
        change = ("pause", None, pause_.as_json())
        await schedule_edits.record_edit(connection, key, now, by, change)
    return queued


async def resume(
    pool: Pool, key: str, now: datetime, *, by: str, note: str = ""
) -> list[QueuedRun]:
    """Resume a paused schedule; every tick of the pause is recorded first, and who did it and why.

    Returns the runs of ticks that were due. Raises UnknownJob if there is no such schedule.
    """
    async with pool.acquire() as connection, connection.transaction():
        return await _resume(connection, key, now, by, note)


async def end_pauses(pool: Pool, now: datetime) -> list[QueuedRun]:
    """Resume the schedules whose pause was to end by `now`; returns the runs of their ticks.

    Ticks from then on run already: this clears what is over.
    """
    queued: list[QueuedRun] = []
    for key in await schedule_rows.pauses_ended(pool, now):
        async with pool.acquire() as connection, connection.transaction():
            state = await schedule_rows.lock(connection, key)
            until = None if state is None else state.paused_until
            if until is not None and until <= now:  # nobody has paused it anew
                queued += await _resume(connection, key, now, PAUSE_ENDED)
    return queued


async def _resume(
    connection: Connection, key: str, now: datetime, by: str, note: str = ""
) -> list[QueuedRun]:
    state = await schedule_rows.lock(connection, key)
    queued = await resume_in(connection, key, now)
    if state is not None and state.paused_at is not None:
        change = ("resume", {"note": state.paused_note}, {"note": note} if note else None)
        await schedule_edits.record_edit(connection, key, now, by, change)
    return queued


async def pause_in(
    connection: Connection, key: str, pause_: schedule_versions.SchedulePause
) -> list[QueuedRun]:
    """Do the same as `pause` in the caller's transaction."""
    return await _set_pause(connection, key, pause_.at, pause_)


async def resume_in(connection: Connection, key: str, now: datetime) -> list[QueuedRun]:
    """Do the same as `resume` in the caller's transaction."""
    return await _set_pause(connection, key, now, None)


def _check_own_pause(state: ScheduleState, pause_: schedule_versions.SchedulePause) -> None:
    ended = state.paused_until is not None and state.paused_until <= pause_.at
    if state.paused_at is None or ended or state.paused_by == pause_.by:
        return
    why = f"{state.paused_by}: {state.paused_note}"
    raise WrongState(f"{state.key} is paused already by {why}; resume it first")


async def _set_pause(
    connection: Connection, key: str, now: datetime, pause_: schedule_versions.SchedulePause | None
) -> list[QueuedRun]:
    queued: list[QueuedRun] = []
    state = await schedule_rows.lock(connection, key)
    if state is None:
        raise UnknownJob(f"there is no schedule {key!r}")
    if pause_ is not None:
        check_open(state)
        _check_own_pause(state, pause_)
    try:
        await decide_all(connection, state, now, queued)
    except BadSchedule as error:  # its ticks are held either way
        _log.warning("schedule.undecidable", schedule=key, error=str(error))
    await schedule_versions.set_pause(connection, key, pause_)
    _log.info("schedule.paused" if pause_ else "schedule.resumed", schedule=key)
    return queued
