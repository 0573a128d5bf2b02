"""When a schedule is due and runs next, in words and as an instant, for people."""

from datetime import datetime

from app.core.errors import BadSchedule
from app.ledger.stored_schedules import read_schedule
from app.scheduling.policies import Policies
from app.store.schedules.schedule_rows import ScheduleState


def describe(state: ScheduleState) -> str:
    """Return when the schedule is due, in words."""
    try:
        return read_schedule(state).describe()
    except BadSchedule as error:
        return f"unreadable: {error}"


def next_run(state: ScheduleState) -> datetime | None:
    """Return the next tick that may run; None if there is none, or the schedule rests."""
    if not state.enabled or state.paused_at is not None:
        return None
    try:
        policies = Policies.from_spec(state.policies)
        return policies.next_run_from(read_schedule(state), state.next_tick_at)
    except BadSchedule:
        return state.next_tick_at
