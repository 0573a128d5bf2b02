"""Tick slots: the outcome of each of a schedule's last ticks, and their totals. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain

import msgspec

from app.core.enums import RunStatus, TickOutcome, TickReason
from app.scheduling.schedule import Schedule
from app.store.reports.overview import GapSummary, TickSummary
from app.web.dashboard.formatting import precise_instant, span

SHOWN_TICKS = 60

TimeSpan = tuple[datetime, datetime]


class SlotKind(StrEnum):
    """How a slot is drawn. The value is its CSS class."""

    GOOD = "ok"
    PARTIAL = "part"
    BAD = "bad"
    RUNNING = "going"
    QUEUED = "wait"
    RAN = "ran"
    SKIPPED = "skipped-tick"
    MISSED = "miss"
    UNDECIDED = "due"
    AHEAD = "ahead"


SLOT_KINDS: dict[str | None, SlotKind] = {
    RunStatus.SUCCESS: SlotKind.GOOD,
    RunStatus.PARTIAL_FAILURE: SlotKind.PARTIAL,
    RunStatus.FAILURE: SlotKind.BAD,
    RunStatus.TIMED_OUT: SlotKind.BAD,
    RunStatus.LOST: SlotKind.BAD,
    RunStatus.CANCELLED: SlotKind.BAD,
    RunStatus.RUNNING: SlotKind.RUNNING,
    RunStatus.QUEUED: SlotKind.QUEUED,
    None: SlotKind.RAN,  # its run was removed by retention
}
# Ticks that did not run on purpose do not count as due.
NOT_DUE_REASONS = frozenset(
    {TickReason.PAUSED, TickReason.DISABLED, TickReason.SUPERSEDED, TickReason.EXCLUDED}
)
REASON_TEXTS = {
    TickReason.OVERLAP: "the previous run was still running",
    TickReason.PAUSED: "paused",
    TickReason.COALESCED: "coalesced into a later tick",
    TickReason.SUPERSEDED: "the schedule was edited",
    TickReason.DISABLED: "disabled",
    TickReason.EXCLUDED: "an excluded time, or outside start and end",
    TickReason.SCHEDULER_DOWN: "no live worker, or none reached Postgres",
    TickReason.LATE: "it could not start within its grace",
    TickReason.CLOCK_JUMP: "the clock jumped",
    TickReason.UNREADABLE: "its schedule could not be read",
}


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One tick as it is drawn. `seconds`: duration of its run. `says`: its outcome."""

    at: datetime
    kind: SlotKind
    says: str
    seconds: float | None = None


@dataclass(slots=True)
class TickTotals:
    """Totals of the shown ticks. `waits` (from tick to start) and `runs` are in seconds."""

    due: int = 0
    ran: int = 0
    ended: int = 0
    succeeded: int = 0
    missed: int = 0
    skipped: int = 0
    failed: int = 0
    waits: list[float] = field(default_factory=list[float])
    runs: list[float] = field(default_factory=list[float])
    last_end: datetime | None = None

    def add_tick(self, tick: TickSummary) -> None:
        self.ran += tick.outcome == TickOutcome.RAN
        if tick.started_at is not None:
            self.waits.append(max((tick.started_at - tick.scheduled_for).total_seconds(), 0.0))
        if tick.seconds is not None:
            if tick.started_at is not None:
                end = tick.started_at + timedelta(seconds=tick.seconds)
                self.last_end = end if self.last_end is None else max(self.last_end, end)
            self.runs.append(tick.seconds)
            self.ended += 1
            self.succeeded += tick.status == RunStatus.SUCCESS
            self.failed += SLOT_KINDS.get(tick.status) is SlotKind.BAD
        self.add_outcome(tick.outcome, tick.reason, 1)

    def add_outcome(self, outcome: str, reason: str | None, count: int) -> None:
        self.due += 0 if reason in NOT_DUE_REASONS else count
        self.missed += count if outcome == TickOutcome.MISSED else 0
        self.skipped += count if outcome == TickOutcome.SKIPPED else 0


def last_slots(
    ticks: Sequence[TickSummary], gaps: Sequence[GapSummary], tally: TickTotals
) -> list[Slot]:
    """The slots of the last ticks, oldest first; ticks and gaps come newest first."""
    slots: list[Slot] = []
    for line in _newest_first(ticks, gaps):
        free = SHOWN_TICKS - len(slots)
        if free <= 0:
            break
        if isinstance(line, TickSummary):
            tally.add_tick(line)
            slots.append(_of_tick(line))
        else:
            count = min(free, line.count)
            tally.add_outcome(line.outcome, line.reason, count)
            slots += _of_gap(line, count)
    slots.reverse()
    return slots


def undecided(schedule: Schedule, frontier: datetime, now: datetime) -> list[Slot]:
    """Slots for the last ticks between the frontier and `now`, which are undecided."""
    step = schedule.interval or timedelta(days=1)
    since = max(frontier, now - (SHOWN_TICKS + 1) * step)
    instants = list(schedule.ticks(since, now))[-SHOWN_TICKS:]
    return [Slot(at, SlotKind.UNDECIDED, "undecided") for at in instants]


def outages(beats: Iterable[TimeSpan], now: datetime, patience: timedelta) -> list[TimeSpan]:
    """Intervals up to `now`, longer than `patience`, without a live worker. `beats` is sorted."""
    found: list[TimeSpan] = []
    alive: datetime | None = None
    for since, until in chain(beats, [(now, now)]):
        if alive is not None and since - alive > patience:
            found.append((alive, since))
        alive = until if alive is None else max(alive, until)
    return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that a `share` of the values does not exceed; None if there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _newest_first(
    ticks: Sequence[TickSummary], gaps: Sequence[GapSummary]
) -> Iterable[TickSummary | GapSummary]:
    if not gaps:
        return ticks
    both: list[tuple[datetime, TickSummary | GapSummary]] = [
        (tick.scheduled_for, tick) for tick in ticks
    ]
    both += [(gap.first_tick, gap) for gap in gaps]
    both.sort(key=lambda pair: pair[0], reverse=True)
    return (line for _, line in both)


def _of_tick(tick: TickSummary) -> Slot:
    if tick.outcome == TickOutcome.RAN:
        kind = SLOT_KINDS.get(tick.status, SlotKind.RAN)
        ended = f" in {span(tick.seconds)}" if tick.seconds is not None else ""
        status = (tick.status or "run removed by retention").replace("_", " ")
        return Slot(tick.scheduled_for, kind, f"ran: {status}{ended}", tick.seconds)
    kind = SlotKind.MISSED if tick.outcome == TickOutcome.MISSED else SlotKind.SKIPPED
    return Slot(tick.scheduled_for, kind, outcome_text(tick.outcome, tick.reason))


def outcome_text(outcome: str, reason: str | None) -> str:
    """An outcome with its reason in words: `missed: no live worker`."""
    return f"{outcome}: {REASON_TEXTS[TickReason(reason)]}" if reason else outcome


def _of_gap(gap: GapSummary, count: int) -> Iterator[Slot]:
    """Newest first. The instants are interpolated between the ends of the gap."""
    kind = SlotKind.MISSED if gap.outcome == TickOutcome.MISSED else SlotKind.SKIPPED
    step = (gap.last_tick - gap.first_tick) / max(gap.count - 1, 1)
    text = (
        f"{outcome_text(gap.outcome, gap.reason)}"
        f" (one of {gap.count} from {precise_instant(gap.first_tick)}"
        f" to {precise_instant(gap.last_tick)} UTC)"
    )
    for number in range(count):
        at = (gap.last_tick - number * step).replace(microsecond=0)
        at = min(max(at, gap.first_tick), gap.last_tick)
        yield Slot(at, kind, text)
