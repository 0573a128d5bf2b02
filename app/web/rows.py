"""A row of the dashboard: what is known of one schedule, in the words of the page. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import msgspec
from markupsafe import Markup

from app.errors import BadSchedule
from app.health.facts import JobFacts
from app.scheduling.schedule import Schedule
from app.store.overview import GapLine, ScheduleLine, TickLine
from app.web import slots, strip
from app.web.health import JudgedJob
from app.web.plain import clipped, instant, span
from app.web.slots import Slot, Stretch, Tally
from app.words import HealthReason, JobStatus

LONGEST_ERROR = 160
NOT_DRAWN = Markup()
_ORDER = {
    JobStatus.UNHEALTHY: 0,
    JobStatus.NOT_STARTED: 1,
    None: 2,
    JobStatus.HEALTHY: 3,
    JobStatus.PAUSED: 4,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Seconds; None is "not known".

    `status` is None when Redis does not tell. `why` is a sentence or empty. `ill`: somebody
    should look.
    """

    key: str
    status: JobStatus | None
    reason: HealthReason | None
    why: str
    since: datetime | None
    rule: str
    zone: str | None
    last: datetime | None
    running_since: datetime | None
    upcoming: datetime | None
    interval: float | None
    wait: tuple[float | None, float | None]
    run: tuple[float | None, float | None]
    tally: Tally
    strip: Markup
    ill: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """All that was read of the schedules at `now`."""

    now: datetime
    schedules: Sequence[ScheduleLine]
    ticks: Mapping[int, list[TickLine]]
    gaps: Sequence[GapLine]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The slots of a schedule, what they add up to, and its rule in words."""

    rule: str
    interval: float | None
    slots: list[Slot]
    tally: Tally


@dataclass(slots=True)
class Drawings:
    """Strips that were drawn before: nothing is drawn again that has not changed."""

    _kept: dict[int, tuple[object, Drawn, Markup]] = field(
        default_factory=dict[int, tuple[object, Drawn, Markup]]
    )

    def of(
        self, line: ScheduleLine, lines: Lines, gaps: Sequence[GapLine], outages: Sequence[Stretch]
    ) -> tuple[Drawn, Markup]:
        """The strip of one schedule, and what it adds up to."""
        ticks = lines.ticks[line.id]
        late = line.due_at is not None and line.due_at < lines.now
        told = (ticks, gaps, outages, line.spec, lines.now if late else None)
        kept = self._kept.get(line.id)
        if kept is not None and kept[0] == told:
            return kept[1], kept[2]
        seen = drawn(line, ticks, gaps, lines.now)
        strip_ = strip.draw(seen.slots, seen.tally, outages)
        self._kept[line.id] = (told, seen, strip_)
        return seen, strip_


def rows(
    lines: Lines,
    judged: Mapping[str, JudgedJob],
    outages: Sequence[Stretch],
    drawings: Drawings,
) -> list[Row]:
    """A row for each schedule, the ill ones first."""
    gaps: defaultdict[int, list[GapLine]] = defaultdict(list)
    for gap in lines.gaps:
        gaps[gap.schedule_id].append(gap)
    made: list[Row] = []
    for line in lines.schedules:
        seen, strip_ = drawings.of(line, lines, gaps[line.id], outages)
        made.append(row_of(line, judged.get(line.key), seen, strip_))
    return in_order(made)


def in_order(made: Iterable[Row]) -> list[Row]:
    """The ill ones first, the resting ones last."""
    return sorted(made, key=lambda row: (_ORDER[row.status], row.key))


def from_redis(judged: Mapping[str, JudgedJob]) -> list[Row]:
    """What Redis alone can tell of each job, while Postgres is away."""
    made: list[Row] = []
    for key, job in judged.items():
        rule = f"every {span(job.facts.interval_seconds)}" if job.facts.interval_seconds else ""
        made.append(_told(key, job, rule, None))
    return in_order(made)


@lru_cache(maxsize=4096)
def _read(spec: bytes, name: str) -> tuple[Schedule, str, float | None]:
    schedule = Schedule.from_spec(msgspec.json.decode(spec), name=name)
    interval = schedule.interval  # of a cron expression, found by walking it
    return schedule, schedule.describe(), None if interval is None else interval.total_seconds()


def drawn(
    line: ScheduleLine, ticks: Sequence[TickLine], gaps: Sequence[GapLine], now: datetime
) -> Drawn:
    """The last ticks of a schedule, and those that are due and not decided."""
    tally = Tally()
    decided = slots.last(ticks, gaps, tally)
    try:
        schedule, rule, interval = _read(msgspec.json.encode(line.spec), line.key)
    except BadSchedule as error:
        return Drawn(str(error), None, decided, tally)
    late = line.due_at is not None and line.due_at < now
    waiting = slots.undecided(schedule, line.evaluated_through, now) if late else []
    return Drawn(rule, interval, decided + waiting, tally)


def row_of(
    line: ScheduleLine, job: JudgedJob | None, seen: Drawn, strip_: Markup = NOT_DRAWN
) -> Row:
    """The row of one schedule."""
    known = _told(line.key, job, seen.rule, line.spec.get("timezone"))
    tally = seen.tally
    return Row(
        key=line.key,
        status=known.status,
        reason=known.reason,
        why=known.why or _resting(line),
        since=known.since or line.paused_at,
        rule=seen.rule,
        zone=known.zone,
        last=known.last,
        running_since=known.running_since,
        upcoming=line.next_tick_at,
        interval=seen.interval,
        wait=_both(tally.waits),
        run=_both(tally.runs),
        tally=tally,
        strip=strip_,
        ill=known.ill,
    )


def _told(key: str, job: JudgedJob | None, rule: str, zone: str | None) -> Row:
    facts = JobFacts(job=key) if job is None else job.facts
    return Row(
        key=key,
        status=None if job is None else job.verdict.status,
        reason=None if job is None else job.verdict.reason,
        why="" if job is None else why(job),
        since=None if job is None else job.verdict.since,
        rule=rule,
        zone=None if zone in {None, "UTC"} else zone,
        last=facts.last_run,
        running_since=facts.running_since,
        upcoming=facts.next_run,
        interval=facts.interval_seconds,
        wait=(None, None),
        run=(None, None),
        tally=Tally(),
        strip=Markup(),
        ill=job is not None and job.verdict.ill,
    )


def _resting(line: ScheduleLine) -> str:
    if not line.enabled:
        return "switched off by the settings"
    if line.paused_at is None:
        return ""
    return f"by {line.paused_by}: {line.paused_note}"


def why(job: JudgedJob) -> str:
    """The reason of a verdict as a person would say it, with the fact that settles it."""
    facts, reason = job.facts, job.verdict.reason
    if reason is None:
        return ""
    since = "" if facts.last_run is None else f" since {instant(facts.last_run)} UTC"
    known = {
        HealthReason.OVERDUE: f"overdue: no run has ended{since}",
        HealthReason.NEVER_RAN: "it has never run",
        HealthReason.DISABLED: "switched off by the settings",
        HealthReason.FAILING: f"{facts.consecutive_failures} failed in a row: {_error(facts)}",
        HealthReason.PAUSED: f"by {facts.paused_by}: {facts.paused_note}",
        HealthReason.SKIP_STREAK: "its ticks are skipped, one after the other",
        HealthReason.LATE: "its runs start too late",
        HealthReason.STALE_DATA: "it runs, but brings nothing new",
        HealthReason.DRIFT: "its records look other than they used to",
        HealthReason.UNKNOWN: "it cannot be told: our own outage",
    }
    return known[reason]


def _error(facts: JobFacts) -> str:
    return clipped(facts.last_error, LONGEST_ERROR) or "no error was kept"


def _both(values: Sequence[float]) -> tuple[float | None, float | None]:
    return slots.percentile(values, 0.5), slots.percentile(values, 0.95)
