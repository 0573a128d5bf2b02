"""Decides the outcome of each due tick from the state of its schedule. Pure."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice, pairwise, takewhile
from typing import Self
from uuid import UUID

from app.core.enums import Coalesce, Overlap, RunStatus, TickOutcome, TickReason
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule

_INSTANT = timedelta(microseconds=1)
# `queue_one` allows one running run and one queued run.
_QUEUE_ONE_LIMIT = 2


@dataclass(frozen=True, slots=True)
class AliveSpan:
    """A span [since, until) in which a worker was alive, by its heartbeats.

    `jumped`: the worker's wall clock jumped forward, from its last heartbeat to `since`.
    """

    since: datetime
    until: datetime
    jumped: bool = False


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run of the schedule that is queued or running. A manual run has no `scheduled_for`."""

    run_id: UUID
    status: RunStatus
    scheduled_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class DecisionInput:
    """Everything a decision depends on. Instants are timezone-aware.

    Every tick up to `frontier` is decided. `paused_until`: when the pause ends by itself.
    """

    schedule: Schedule
    policies: Policies
    frontier: datetime
    now: datetime
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    enabled: bool = True
    open_runs: Sequence[OpenRun] = ()
    beats: Sequence[AliveSpan] = ()


@dataclass(frozen=True, slots=True)
class TickResult:
    """The outcome of one tick. RAN means that a run is to be created, and has no reason.

    `blocking_run`: the open run that blocked it. `blocking_tick`: the tick of the same decision
    whose run blocked it.
    """

    tick: datetime
    outcome: TickOutcome
    reason: TickReason | None = None
    blocking_run: UUID | None = None
    blocking_tick: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Outcomes in order, one for each tick in (old frontier, `frontier`].

    `cancel`: open runs to cancel. `complete`: no due ticks are left; else decide again from the new
    frontier.
    """

    outcomes: tuple[TickResult, ...]
    frontier: datetime
    cancel: tuple[UUID, ...] = ()
    complete: bool = True


def decide(situation: DecisionInput, limit: int = 20_000) -> Decision:
    """Decide the due ticks, oldest first and at most `limit` of them.

    The outcomes do not depend on the limit: the ticks that may run are selected first and left to
    the last decision, unless more paused ticks than the limit follow them.
    """
    case = _Case(situation, situation.policies.apply_jitter(situation.schedule))
    due = list(islice(case.due(), limit + 1))
    ticks, complete = due[:limit], len(due) <= limit
    runnable = frozenset(case.newest(due) if complete else case.newest_of_all())
    if not complete:
        ticks = list(takewhile(lambda tick: tick not in runnable, ticks)) or ticks
    outcomes = tuple(case.outcome(tick, runnable) for tick in ticks)
    return Decision(
        outcomes=outcomes,
        frontier=ticks[-1] if ticks else situation.frontier,
        cancel=case.cancelled(outcomes),
        complete=complete,
    )


class _Case:
    """A decision in progress: its input, and the ticks that run so far."""

    def __init__(self, situation: DecisionInput, schedule: Schedule) -> None:
        self.situation = situation
        self.schedule = schedule
        self.policies = situation.policies
        self.now = situation.now
        self.alive = _AliveSpans.of(situation.beats)
        self.started: list[datetime] = []
        self.starts: dict[datetime, datetime] = {}
        self.following: dict[datetime, datetime] = {}  # the tick after each, if it is not later

    def due(self) -> Iterator[datetime]:
        """Yield the ticks to decide: those whose start, with its jitter, has come."""
        ticks = self.schedule.ticks(self.situation.frontier, self.now)
        for tick, following in pairwise(chain(ticks, (None,))):
            if tick is None:
                return
            self.starts[tick] = self.schedule.starts_at(tick, following)
            if self.starts[tick] > self.now:
                return
            if following is not None:
                self.following[tick] = following
            yield tick

    def newest(self, due: Sequence[datetime]) -> list[datetime]:
        """Select from all due ticks those that may run."""
        return list(islice(filter(self._is_candidate, reversed(due)), self._most()))

    def newest_of_all(self) -> list[datetime]:
        """Select those that may run when there are too many due ticks to list."""
        return self.newest(list(islice(self._backwards(), self._most()))[::-1])

    def outcome(self, tick: datetime, runnable: frozenset[datetime]) -> TickResult:
        if not self.situation.enabled:
            return _skipped(tick, TickReason.DISABLED)
        if self._is_paused(tick):
            return _skipped(tick, TickReason.PAUSED)
        if self.policies.excludes(self.schedule, tick):
            return _skipped(tick, TickReason.EXCLUDED)
        if self._is_too_late(tick):
            return self._missed(tick)
        return self._run_or_overlap(tick) if tick in runnable else self._coalesced(tick)

    def cancelled(self, outcomes: Sequence[TickResult]) -> tuple[UUID, ...]:
        ran = any(decided.outcome is TickOutcome.RAN for decided in outcomes)
        if not ran or self.policies.overlap is not Overlap.CANCEL_RUNNING:
            return ()
        return tuple(run.run_id for run in self.situation.open_runs)

    def _start(self, tick: datetime) -> datetime:
        return self.starts.get(tick) or self.schedule.starts_at(tick)

    def _most(self) -> int:
        return self.policies.catch_up if self.policies.coalesce is Coalesce.ALL else 1

    def _backwards(self) -> Iterator[datetime]:
        end = self.now + _INSTANT
        paused_at, paused_until = self.situation.paused_at, self.situation.paused_until
        if paused_at is not None and (paused_until is None or paused_until > self.now):
            end = min(paused_at, end)
        tick = self.schedule.previous(end)
        while tick is not None and tick > self.situation.frontier and not self._is_too_late(tick):
            if self._start(tick) <= self.now and self._is_candidate(tick):
                yield tick
            tick = self.schedule.previous(tick)

    def _is_candidate(self, tick: datetime) -> bool:
        excluded = self._is_paused(tick) or self.policies.excludes(self.schedule, tick)
        return not excluded and not self._is_too_late(tick)

    def _is_paused(self, tick: datetime) -> bool:
        paused_at, paused_until = self.situation.paused_at, self.situation.paused_until
        if paused_at is None or self._start(tick) < paused_at:
            return False
        return paused_until is None or self._start(tick) < paused_until

    def _is_too_late(self, tick: datetime) -> bool:
        return self.now - self._start(tick) > self.policies.misfire_grace

    def _coalesced(self, tick: datetime) -> TickResult:
        if self.policies.coalesce is Coalesce.NONE:  # it could have run until the next one was due
            following = self.following.get(tick)
            return self._missed(tick, following and self._start(following))
        return _skipped(tick, TickReason.COALESCED)

    def _missed(self, tick: datetime, until: datetime | None = None) -> TickResult:
        start = self._start(tick)
        end = min(start + self.policies.misfire_grace, until or self.now)
        return TickResult(tick, TickOutcome.MISSED, self.alive.why_missed(start, end))

    def _run_or_overlap(self, tick: datetime) -> TickResult:
        if self._is_blocked():
            return self._skipped_for_overlap(tick)
        self.started.append(tick)
        return TickResult(tick, TickOutcome.RAN)

    def _is_blocked(self) -> bool:
        ahead = len(self.situation.open_runs) + len(self.started)
        if self.policies.overlap is Overlap.SKIP:
            return ahead > 0
        return self.policies.overlap is Overlap.QUEUE_ONE and ahead >= _QUEUE_ONE_LIMIT

    def _skipped_for_overlap(self, tick: datetime) -> TickResult:
        if self.started:
            return _blocked(tick, by_tick=self.started[-1])
        runs = self.situation.open_runs
        blocking = [run for run in runs if run.status is RunStatus.RUNNING]
        # `skip` is blocked by the running run, `queue_one` by the queued one.
        if self.policies.overlap is Overlap.QUEUE_ONE:
            blocking = [run for run in runs if run.status is RunStatus.QUEUED]
        return _blocked(tick, by_run=(blocking or runs)[0].run_id)


@dataclass(frozen=True, slots=True)
class _AliveSpans:
    """The union of all workers' beats: disjoint spans, in order."""

    spans: tuple[AliveSpan, ...]
    ends: tuple[datetime, ...] = field(default=())

    @classmethod
    def of(cls, beats: Sequence[AliveSpan]) -> Self:
        spans: list[AliveSpan] = []
        for beat in sorted(beats, key=lambda beat: (beat.since, not beat.jumped)):
            if spans and beat.since <= spans[-1].until:
                last = spans[-1]
                spans[-1] = AliveSpan(last.since, max(last.until, beat.until), last.jumped)
            else:
                spans.append(beat)
        return cls(tuple(spans), tuple(span.until for span in spans))

    def why_missed(self, start: datetime, end: datetime) -> TickReason:
        """Return why nothing ran in [start, end): late if any worker was alive then."""
        following = self._ending_after(start)
        if following is not None and following.since < end:
            return TickReason.LATE
        if following is not None and following.jumped:
            return TickReason.CLOCK_JUMP
        return TickReason.SCHEDULER_DOWN

    def _ending_after(self, instant: datetime) -> AliveSpan | None:
        index = bisect_left(self.ends, instant + _INSTANT)
        return self.spans[index] if index < len(self.spans) else None


def _skipped(tick: datetime, reason: TickReason) -> TickResult:
    return TickResult(tick, TickOutcome.SKIPPED, reason)


def _blocked(
    tick: datetime, *, by_run: UUID | None = None, by_tick: datetime | None = None
) -> TickResult:
    return TickResult(tick, TickOutcome.SKIPPED, TickReason.OVERLAP, by_run, by_tick)
