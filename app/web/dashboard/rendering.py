"""Rendering of the dashboard pages with Jinja. The pages work without JavaScript."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.core import printable, redact
from app.core.enums import HealthReason, JobStatus
from app.core.lazy_import import COMPILING
from app.health.judge import OverallReason
from app.web.dashboard import elements, formatting, tick_strip
from app.web.dashboard.data import line_chart
from app.web.dashboard.job_rows import JobTableRow
from app.web.dashboard.jobs_table import JobsBoard

PACKAGE = Path(__file__).parents[1]
STATIC = PACKAGE / "static"
NAMED_JOBS = 3  # jobs named in the headline

_HEADLINES: dict[str, str] = {
    OverallReason.REDIS_UNREACHABLE: "Redis does not answer: the state of the jobs is unknown",
    OverallReason.REDIS_REFUSES_WRITES: "Redis refuses writes: no run will start",
    OverallReason.NO_JOBS: "No jobs registered: no worker has started yet",
}
NO_WORKERS = "No live worker: no run will start"
_without_secrets = redact.redactor()


@runtime_checkable
class HasZone(Protocol):
    """A reader who has chosen a time zone."""

    @property
    def zone(self) -> str: ...


def headline(board: JobsBoard) -> Markup | str:
    """The overall state in one sentence: which jobs are unhealthy, why, and since when."""
    if not board.redis:
        return _HEADLINES[OverallReason.REDIS_UNREACHABLE]
    if board.redis_refuses:
        return _HEADLINES[OverallReason.REDIS_REFUSES_WRITES]
    if not board.rows:
        return _HEADLINES[OverallReason.NO_JOBS]
    if not board.workers:
        if board.outage is None:
            return NO_WORKERS
        since = board.outage[0]
        duration = formatting.short_span((board.now - since).total_seconds())
        at = elements.short(since, board.now)
        return Markup("No live worker since {} UTC ({}): no run will start").format(at, duration)
    return _of_jobs(board)


def _of_jobs(board: JobsBoard) -> Markup | str:
    if not board.unhealthy:
        return "All jobs are healthy" if board.postgres else "Postgres does not answer"
    named = [_since(row, board) for row in board.unhealthy[:NAMED_JOBS]]
    more = len(board.unhealthy) - len(named)
    others = f" and {more} more" if more else ""
    verb = "is" if len(board.unhealthy) == 1 else "are"
    count = f"{len(board.unhealthy)} of {len(board.rows)} jobs {verb} unhealthy"
    return Markup("{}: {}{}").format(count, Markup(", ").join(named), others)


def _since(row: JobTableRow, board: JobsBoard) -> Markup | str:
    named = f"{row.key} {formatting.enum_text(row.reason)}" if row.reason else row.key
    if row.since is None:
        return named
    duration = formatting.short_span((board.now - row.since).total_seconds())
    at = elements.short(row.since, board.now)
    return Markup("{} since {} UTC ({})").format(named, at, duration)


_FIRST_STEPS: dict[str, str] = {
    HealthReason.FAILING: "Read the error of its last run",
    HealthReason.SOURCE_FAILING: "Read what its source failed with",
    HealthReason.OVERDUE: "See what became of its last ticks",
    HealthReason.NEVER_RAN: "See what became of its ticks",
    HealthReason.SKIP_STREAK: "See why its ticks are skipped",
    HealthReason.LATE: "See whether there are enough workers",
    HealthReason.UNREADABLE: "Mend its schedule",
    HealthReason.ORPHANED: "See whether its file could be loaded",
}
_FIRST_PAGES: dict[str, str] = {
    HealthReason.FAILING: "/runs?status=unsuccessful&period=&job=",
    HealthReason.SOURCE_FAILING: "/runs?status=unsuccessful&period=&job=",
    HealthReason.OVERDUE: "/ticks?job=",
    HealthReason.NEVER_RAN: "/ticks?job=",
    HealthReason.SKIP_STREAK: "/ticks?job=",
}


def _first_of_servers(board: JobsBoard) -> str | None:
    if not board.redis:
        return "Start Redis, or check REDIS_URL. Runs start again by themselves"
    if board.redis_refuses:
        return "Raise Redis' maxmemory, or free its disk: rollcall doctor shows its message"
    if not board.postgres:
        return "Start Postgres, or check DATABASE_URL. No outcome is lost meanwhile"
    return None


def first_step(board: JobsBoard) -> tuple[str, str] | None:
    """What to do first: a sentence, and the address that it is about or an empty text.

    None if there is nothing to do.
    """
    servers = _first_of_servers(board)
    if servers is not None:
        return servers, ""
    if board.rows and not board.workers:
        return "Start a worker: arq app.workers.Settings", "/workers"
    if not board.unhealthy:
        return None
    row = board.unhealthy[0]
    reason = (row.reason or "").partition(":")[0]  # `source_failing: bet9ja` names the source
    step = _FIRST_STEPS.get(reason, "Look at the job")
    if reason in {HealthReason.LATE, HealthReason.ORPHANED}:
        return f"{row.key}: {step}", "/workers"
    return f"{row.key}: {step}", _FIRST_PAGES.get(reason, "/jobs/") + quote(row.key, safe="")


def home(
    board: JobsBoard,
    drawn: Markup,
    user: HasZone,
    filters: Mapping[str, str],
    by_hand: Sequence[str] = (),
) -> str:
    """The front page as HTML, around the jobs table that is rendered already.

    `by_hand`: the jobs without a schedule.
    """
    return page(
        "home.html",
        board=board,
        table=drawn,
        headline=headline(board),
        first_step=first_step(board),
        user=user,
        section="jobs",
        legend=tick_strip.LEGEND,
        filters=filters,
        by_hand=by_hand,
        statuses=[*JobStatus, "unknown"],
    )


def page(name: str, **values: object) -> str:
    """Render the template of that name, with times in the zone of `user`, if there is one."""
    text = part(name, **values)
    user = values.get("user")
    zone = user.zone if isinstance(user, HasZone) else formatting.UTC_NAME
    return text if zone == formatting.UTC_NAME else localised(text, zone)


def part(name: str, **values: object) -> str:
    """Render the template of that name, with times in UTC."""
    return ENVIRONMENT.get_template(name).render(**values)


def localised(text: str, zone: str) -> str:
    """The page with each time in the zone, and the same in UTC beside it."""
    for end in ("</th>", "</dt>"):
        text = text.replace(f", UTC{end}", end)
    return _TIME.sub(lambda found: _local(found, zone), text)


# Only templates write this element: what sites or people wrote is escaped.
_TIME = re.compile(r'<time datetime="(\d{4}-[^"]+T[^"]+)">([^<]*)</time>(?: UTC)?')
_TIME_ONLY = len("12:00:00")


def _local(found: re.Match[str], zone: str) -> str:
    at, shown = datetime.fromisoformat(found[1]), found[2]
    local = at.astimezone(ZoneInfo(zone))
    same_day = len(shown) == _TIME_ONLY and local.date() == at.date()
    text = f"{local:%H:%M:%S}" if same_day else f"{local:%Y-%m-%d %H:%M:%S}"
    return f'<time datetime="{found[1]}">{text}</time> <span class="utc quiet">{shown} UTC</span>'


def _as_json(value: object) -> str:
    """The value as JSON, without what its names say is a secret, as in the log."""
    return msgspec.json.encode(_without_secrets({"": value})[""]).decode()


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _create_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PACKAGE / "templates"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = cast("dict[str, Any]", environment.globals)
    names.update(pill=elements.pill, when=elements.when, short=elements.short, ago=elements.ago)
    filters = cast("dict[str, Any]", environment.filters)
    filters.update(
        about=formatting.short_span,
        span=formatting.span,
        instant=formatting.instant,
        clock=formatting.clock,
        iso=formatting.iso,
        local=formatting.local_time,
        words=formatting.enum_text,
        glyph=formatting.symbol,
        share=formatting.percentage,
        number=formatting.number,
        counted=printable.counted,
        megabytes=formatting.megabytes,
        size=formatting.size,
        clipped=formatting.clipped,
        sample=tick_strip.legend_sample,
        as_json=_as_json,
        decoded=_decoded,
        percent=formatting.fraction,
        chart_sample=line_chart.sample,
        labelled=formatting.labelled,
    )
    return environment


ENVIRONMENT = _create_environment()


def compile_templates() -> None:
    """Compile all templates, which takes about a second, so that no request has to wait for it."""
    for name in ENVIRONMENT.list_templates():
        with COMPILING:
            ENVIRONMENT.get_template(name)
