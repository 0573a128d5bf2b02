"""From a decision to what is written: pure, and the same for one schedule as for a thousand."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from uuid import UUID, uuid4

from app.scheduling.policies import Policies
from app.scheduling.policy import Decided, Decision
from app.scheduling.schedule import Schedule
from app.store.schedules import GapWrite, TickWrite, Verdict
from app.words import TickOutcome

MOST_ALIKE = 50  # more ticks in a row than this with the same outcome and reason become one row


def first_due(
    schedule: Schedule, policies: Policies, frontier: datetime, now: datetime
) -> datetime | None:
    """The first tick to decide, if it is late or one of several: then it matters who was alive."""
    first = schedule.next(frontier)
    late = now - first > policies.misfire_grace or schedule.next(first) <= now
    return first if late else None


def verdict(decision: Decision, schedule: Schedule, policies: Policies, now: datetime) -> Verdict:
    """What the decision writes: ticks with their runs' ids, gaps, and what comes next."""
    ticks: list[TickWrite] = []
    gaps: list[GapWrite] = []
    made = {o.tick: uuid4() for o in decision.outcomes if o.outcome is TickOutcome.RAN}
    for alike in _runs_of_alike(decision.outcomes):
        first, reason = alike[0], alike[0].reason
        if len(alike) > MOST_ALIKE and reason is not None:
            gaps.append(GapWrite(first.tick, alike[-1].tick, len(alike), first.outcome, reason))
        else:
            ticks += [_tick(decided, made) for decided in alike]
    upcoming = schedule.next(decision.frontier)
    return Verdict(
        ticks=ticks,
        gaps=gaps,
        policies=policies,
        frontier=decision.frontier,
        next_tick_at=upcoming,
        due_at=schedule.starts_at(upcoming),
        now=now,
    )


def _runs_of_alike(outcomes: Sequence[Decided]) -> Iterator[list[Decided]]:
    for _, alike in groupby(outcomes, key=lambda o: (o.outcome, o.reason, o.blocking_run)):
        yield list(alike)


def _tick(decided: Decided, made: Mapping[datetime, UUID]) -> TickWrite:
    blocking = decided.blocking_run
    if decided.blocking_tick is not None:
        blocking = made[decided.blocking_tick]
    return TickWrite(
        decided.tick, decided.outcome, decided.reason, made.get(decided.tick), blocking
    )
