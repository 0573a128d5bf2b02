"""Reads the schedule and the policies of a row, and whether it can be acted on."""

from dataclasses import replace
from datetime import timedelta
from functools import lru_cache

import msgspec

from app.core.errors import UnknownJob, WrongState
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection, Pool
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import ScheduleState


async def existing(connection: Pool | Connection, key: str) -> ScheduleState:
    """Return the row of a schedule. Raises UnknownJob, which names those that there are."""
    state = await schedule_rows.one(connection, key)
    if state is None:
        known = ", ".join(s.key for s in await schedule_rows.all_of(connection)) or "none yet"
        raise UnknownJob(f"there is no schedule {key!r}; known: {known}")
    return state


def check_open(state: ScheduleState | None) -> None:
    """Raise WrongState if the schedule is retired: nothing runs, pauses or backfills it."""
    if state is not None and state.retired_at is not None:
        raise WrongState(f"{state.key} is retired; a worker that declares it revives it")


def read_policies(state: ScheduleState) -> Policies:
    """Return the policies of a row. Raises BadSchedule if they are unreadable."""
    return _policies(msgspec.json.encode(state.policies))


def read_schedule(state: ScheduleState, policies: Policies | None = None) -> Schedule:
    """Return the schedule of a row by its own zone data, with the jitter of `policies` if given.

    Raises BadSchedule if the row is unreadable.
    """
    jitter = policies.jitter if policies else timedelta(0)
    schedule = _schedule(msgspec.json.encode(state.spec), jitter, state.zone_data)
    return replace(schedule, name=state.key)


# Many schedules have equal specs and policies: each text is parsed once.
@lru_cache(maxsize=1024)
def _policies(spec: bytes) -> Policies:
    return Policies.from_spec(msgspec.json.decode(spec))


@lru_cache(maxsize=4096)
def _schedule(spec: bytes, jitter: timedelta, stamp: str | None) -> Schedule:
    schedule = Schedule.from_spec(msgspec.json.decode(spec), stamp=stamp)
    return schedule.with_jitter(jitter) if jitter else schedule
