"""Turns a decision into the rows to write, for one schedule. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID, uuid4

from app.core.enums import TickOutcome, TickReason
from app.scheduling.policies import Policies
from app.scheduling.policy import Decision, TickResult
from app.scheduling.schedule import Schedule
from app.store.schedules.decisions import GapWrite, TickDecision, TickWrite
from app.store.schedules.schedule_rows import ScheduleState

# Consecutive ticks of one outcome and reason; more are stored as one gap row.
MAX_REPEATED_TICKS = 50


def first_due_if_late(
    schedule: Schedule, policies: Policies, frontier: datetime, now: datetime
) -> datetime | None:
    """Return the first due tick if it is late or one of several (heartbeats matter); else None."""
    first = schedule.next(frontier)
    late = now - first > policies.misfire_grace or schedule.next(first) <= now
    return first if late else None


def tick_decision(
    state: ScheduleState, schedule: Schedule, policies: Policies, decision: Decision
) -> TickDecision:
    """Return what to write: ticks with the ids of their new runs, gaps, and the next tick."""
    ticks: list[TickWrite] = []
    gaps: list[GapWrite] = []
    run_ids = {o.tick: uuid4() for o in decision.outcomes if o.outcome is TickOutcome.RAN}
    for _, group in groupby(decision.outcomes, key=lambda o: (o.outcome, o.reason, o.blocking_run)):
        same = list(group)
        first, reason = same[0], same[0].reason
        if len(same) > MAX_REPEATED_TICKS and reason is not None:
            gaps.append(GapWrite(first.tick, same[-1].tick, len(same), first.outcome, reason))
        else:
            ticks += [_tick(decided, run_ids) for decided in same]
    upcoming = schedule.next(decision.frontier)
    return TickDecision(
        state=state,
        policies=policies,
        ticks=ticks,
        gaps=gaps,
        frontier=decision.frontier,
        next_tick_at=upcoming,
        due_at=schedule.starts_at(upcoming),
    )


def unreadable_decision(
    state: ScheduleState, schedule: Schedule, policies: Policies, now: datetime
) -> TickDecision | None:
    """Record every tick up to `now` as `missed(unreadable)`; None if `now` is before the frontier.

    `schedule` replaced one that could not be read, and has its ticks from its frontier on. The
    frontier moves to `now`: the old one may have had a tick up to then.
    """
    if now <= state.evaluated_through:
        return None
    count = schedule.count(state.evaluated_through, now)
    outcome, reason = TickOutcome.MISSED, TickReason.UNREADABLE
    ticks: list[TickWrite] = []
    gaps: list[GapWrite] = []
    if count > MAX_REPEATED_TICKS:
        first = schedule.next(state.evaluated_through)
        last = schedule.previous(now + timedelta(microseconds=1)) or first
        gaps = [GapWrite(first, last, count, outcome, reason)]
    else:
        due = schedule.ticks(state.evaluated_through, now)
        ticks = [TickWrite(tick, outcome, reason, None, None) for tick in due]
    upcoming = schedule.next(now)
    return TickDecision(state, policies, ticks, gaps, now, upcoming, schedule.starts_at(upcoming))


def _tick(decided: TickResult, run_ids: Mapping[datetime, UUID]) -> TickWrite:
    blocking = decided.blocking_run
    if decided.blocking_tick is not None:
        blocking = run_ids[decided.blocking_tick]
    return TickWrite(
        decided.tick, decided.outcome, decided.reason, run_ids.get(decided.tick), blocking
    )
