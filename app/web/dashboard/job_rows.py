"""Rows of the jobs table: the state, figures and tick strip of each schedule. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

import msgspec
from markupsafe import Markup

from app.core.enums import HealthReason, JobStatus
from app.core.errors import BadSchedule
from app.health.explain import sentence
from app.health.facts import JobFacts
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.reports.overview import GapSummary, ScheduleSummary, TickSummary
from app.web.dashboard import tick_slots, tick_strip
from app.web.dashboard.formatting import clipped, instant, span
from app.web.dashboard.tick_slots import Slot, TickTotals, TimeSpan
from app.web.health.snapshot import JudgedJob

MAX_ERROR_LENGTH = 160
NO_STRIP = Markup()
_ORDER = {
    JobStatus.UNHEALTHY: 0,
    JobStatus.NOT_STARTED: 1,
    None: 2,
    JobStatus.HEALTHY: 3,
    JobStatus.PAUSED: 4,
}


@dataclass(frozen=True, slots=True)
class JobTableRow:
    """One row of the table. Durations in seconds; None is "not known".

    `status` is None if Redis does not answer. `why` is a sentence or empty. `wait` and `run`: p50
    and p95. `needs_attention`: whether a person should look at it. `last_known`: without a `last`,
    the job has never run; false if that is not known.
    """

    key: str
    status: JobStatus | None
    reason: str | None
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
    tally: TickTotals
    strip: Markup
    needs_attention: bool
    last_known: bool = True


@dataclass(frozen=True, slots=True)
class ScheduleData:
    """Schedules, ticks by schedule id, and gaps, as read from Postgres at `now`."""

    now: datetime
    schedules: Sequence[ScheduleSummary]
    ticks: Mapping[int, list[TickSummary]]
    gaps: Sequence[GapSummary]


@dataclass(frozen=True, slots=True)
class StripSummary:
    """The slots of a schedule, their totals, and its rule in words. `interval` in seconds.

    `wait` and `run`: p50 and p95. `next_run`: the next tick that is not excluded.
    """

    rule: str
    interval: float | None
    slots: list[Slot]
    tally: TickTotals
    wait: tuple[float | None, float | None]
    run: tuple[float | None, float | None]
    next_run: datetime | None = None


@dataclass(slots=True)
class DrawnStrip:
    """What was drawn of one schedule. `until`: from then on another tick of it is due."""

    inputs: object
    until: datetime | None
    summary: StripSummary
    shapes: str
    outages: Sequence[TimeSpan] | None = None
    strip: Markup = NO_STRIP


@dataclass(slots=True)
class StripCache:
    """A cache of rendered strips: a strip is rendered again only if its input has changed."""

    _cached: dict[int, DrawnStrip] = field(default_factory=dict[int, DrawnStrip])

    def get(
        self,
        line: ScheduleSummary,
        lines: ScheduleData,
        gaps: Sequence[GapSummary],
        outages: Sequence[TimeSpan],
    ) -> tuple[StripSummary, Markup]:
        """The slots and the rendered strip of one schedule."""
        ticks = lines.ticks[line.id]
        late = line.due_at is not None and line.due_at < lines.now
        frontier = line.evaluated_through if late else None
        inputs = (ticks, gaps, line.spec, line.policies, line.next_tick_at, frontier)
        drawn = self._cached.get(line.id)
        current = drawn is not None and (drawn.until is None or lines.now < drawn.until)
        if drawn is None or not current or drawn.inputs != inputs:
            summary = summarise_ticks(line, ticks, gaps, lines.now)
            until = _next_tick(line, lines.now) if late else None
            shapes = tick_strip.small_shapes(summary.slots)
            drawn = self._cached[line.id] = DrawnStrip(inputs, until, summary, shapes)
        if drawn.outages != outages:
            summary, drawn.outages = drawn.summary, outages
            drawn.strip = tick_strip.small_strip(
                summary.slots, drawn.shapes, summary.tally, outages, lines.now
            )
        return drawn.summary, drawn.strip


def _next_tick(line: ScheduleSummary, now: datetime) -> datetime | None:
    try:
        spec = msgspec.json.encode(line.spec)
        return _parse(spec, line.key, line.zone_data)[0].next(now)
    except BadSchedule:
        return None


def build_rows(
    lines: ScheduleData,
    judged: Mapping[str, JudgedJob],
    outages: Sequence[TimeSpan],
    drawings: StripCache,
) -> list[JobTableRow]:
    """A row for each schedule, sorted by `sorted_rows`."""
    gaps: defaultdict[int, list[GapSummary]] = defaultdict(list)
    for gap in lines.gaps:
        gaps[gap.schedule_id].append(gap)
    result: list[JobTableRow] = []
    for line in lines.schedules:
        summary, strip_ = drawings.get(line, lines, gaps[line.id], outages)
        result.append(build_row(line, judged.get(line.key), summary, strip_))
    return sorted_rows(result)


def sorted_rows(result: Iterable[JobTableRow]) -> list[JobTableRow]:
    """Sorted by status, unhealthy first and paused last, then by key."""
    return sorted(result, key=lambda row: (_ORDER[row.status], row.key))


def sorted_groups(rows: Iterable[JobTableRow]) -> list[JobTableRow]:
    """Sorted by status as `sorted_rows`, and in their present order within it."""
    return sorted(rows, key=lambda row: _ORDER[row.status])


def rows_from_redis(judged: Mapping[str, JudgedJob]) -> list[JobTableRow]:
    """Rows from Redis alone, for when Postgres does not answer."""
    result: list[JobTableRow] = []
    for key, job in judged.items():
        rule = f"every {span(job.facts.interval_seconds)}" if job.facts.interval_seconds else ""
        result.append(_row_from_health(key, job, rule, None))
    return sorted_rows(result)


@lru_cache(maxsize=4096)
def _parse(spec: bytes, name: str, stamp: str | None) -> tuple[Schedule, str, float | None]:
    schedule = Schedule.from_spec(msgspec.json.decode(spec), name=name, stamp=stamp)
    interval = schedule.interval  # computed by iteration for a cron expression
    return schedule, schedule.describe(), None if interval is None else interval.total_seconds()


def summarise_ticks(
    line: ScheduleSummary, ticks: Sequence[TickSummary], gaps: Sequence[GapSummary], now: datetime
) -> StripSummary:
    """Slots for the last ticks of a schedule, and for those that are due and undecided."""
    tally = TickTotals()
    decided = tick_slots.last_slots(ticks, gaps, tally)
    taken = _p50_p95(tally.waits), _p50_p95(tally.runs)
    try:
        schedule, rule, interval = _parse(msgspec.json.encode(line.spec), line.key, line.zone_data)
        next_run = Policies.from_spec(line.policies).next_run_from(schedule, line.next_tick_at)
    except BadSchedule as error:
        return StripSummary(str(error), None, decided, tally, *taken)
    late = line.due_at is not None and line.due_at < now
    undecided = tick_slots.undecided(schedule, line.evaluated_through, now) if late else []
    return StripSummary(rule, interval, decided + undecided, tally, *taken, next_run)


def build_row(
    line: ScheduleSummary, job: JudgedJob | None, summary: StripSummary, strip_: Markup = NO_STRIP
) -> JobTableRow:
    """The row of one schedule. `job` is None if Redis does not know it."""
    known = _row_from_health(line.key, job, summary.rule, line.spec.get("timezone"))
    return replace(
        known,
        why=_pause_reason(line) or known.why,
        since=line.retired_at or known.since or line.paused_at,
        last=known.last or summary.tally.last_end,
        upcoming=summary.next_run if line.enabled and line.paused_at is None else None,
        interval=summary.interval,
        wait=summary.wait,
        run=summary.run,
        tally=summary.tally,
        strip=strip_,
        last_known=known.last_known or not summary.slots,
    )


def _row_from_health(key: str, job: JudgedJob | None, rule: str, zone: str | None) -> JobTableRow:
    facts = JobFacts(job=key) if job is None else job.facts
    return JobTableRow(
        key=key,
        status=None if job is None else job.health.status,
        reason=None if job is None else job.health.reason_text,
        why="" if job is None else reason_text(job),
        since=None if job is None else job.health.since,
        rule=rule,
        zone=None if zone in {None, "UTC"} else zone,
        last=facts.last_run,
        running_since=facts.running_since,
        upcoming=facts.upcoming,
        interval=facts.interval_seconds,
        wait=(None, None),
        run=(None, None),
        tally=TickTotals(),
        strip=Markup(),
        needs_attention=job is not None and job.health.needs_attention,
        last_known=job is not None,
    )


def _pause_reason(line: ScheduleSummary) -> str:
    if line.retired_at is not None:
        return ""
    if not line.enabled:
        return "disabled in the settings"
    if line.paused_at is None:
        return ""
    until = "" if line.paused_until is None else f" until {instant(line.paused_until)} UTC,"
    return f"{until.lstrip()} by {line.paused_by}: {line.paused_note}".lstrip()


def reason_text(job: JudgedJob) -> str:
    """The reason of a status in a sentence, with the decisive fact. Empty if there is no reason."""
    facts, reason = job.facts, job.health.reason
    if reason is None:
        return ""
    if reason is HealthReason.SOURCE_FAILING:
        return sentence(facts, job.health)
    return _REASON_TEXTS[reason](facts)


def _error(facts: JobFacts) -> str:
    return clipped(facts.last_error, MAX_ERROR_LENGTH) or "no error recorded"


def _overdue(facts: JobFacts) -> str:
    since = "" if facts.last_run is None else f" since {instant(facts.last_run)} UTC"
    return f"overdue: no run has ended{since}"


_REASON_TEXTS: dict[HealthReason, Callable[[JobFacts], str]] = {
    HealthReason.OVERDUE: _overdue,
    HealthReason.NEVER_RAN: lambda _: "has never run",
    HealthReason.DISABLED: lambda _: "disabled in the settings",
    HealthReason.FAILING: lambda facts: (
        f"{facts.consecutive_failures} consecutive failures: {_error(facts)}"
    ),
    HealthReason.PAUSED: lambda facts: f"by {facts.paused_by}: {facts.paused_note}",
    HealthReason.SKIP_STREAK: lambda _: "consecutive ticks did not run",
    HealthReason.LATE: lambda _: "the last runs started later than the grace allows",
    HealthReason.STALE_DATA: lambda _: "runs, but its data is older than expected",
    HealthReason.DRIFT: lambda _: "the shape of its data has changed",
    HealthReason.UNREADABLE: lambda facts: f"its schedule cannot be read: {facts.unreadable}",
    HealthReason.ORPHANED: lambda _: (
        "no live worker knows it: retire it if it was removed, or see Workers for a file that"
        " cannot be loaded"
    ),
    HealthReason.UNKNOWN: lambda _: (
        "state unknown: network outage, unknown interval or differing clocks"
    ),
}


def _p50_p95(values: Sequence[float]) -> tuple[float | None, float | None]:
    return tick_slots.percentile(values, 0.5), tick_slots.percentile(values, 0.95)
