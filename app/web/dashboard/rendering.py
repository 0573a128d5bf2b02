"""Rendering of the dashboard pages with Jinja. The pages work without JavaScript."""

from pathlib import Path
from typing import Any, cast

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.health.judge import OverallReason
from app.web.dashboard import formatting, tick_strip
from app.web.dashboard.data import line_chart
from app.web.dashboard.job_rows import JobTableRow
from app.web.dashboard.jobs_table import JobsBoard

PACKAGE = Path(__file__).parents[1]
STATIC = PACKAGE / "static"
NAMED_JOBS = 3  # jobs named in the headline

_HEADLINES: dict[str, str] = {
    OverallReason.REDIS_UNREACHABLE: "Redis does not answer: the state of the jobs is unknown",
    OverallReason.NO_JOBS: "No jobs registered: no worker has started yet",
}
NO_WORKERS = "No live worker: no run will start"


def headline(board: JobsBoard) -> str:
    """The overall state in one sentence: which jobs are unhealthy, why, and since when."""
    if not board.redis:
        return _HEADLINES[OverallReason.REDIS_UNREACHABLE]
    if not board.rows:
        return _HEADLINES[OverallReason.NO_JOBS]
    if not board.workers:
        if board.outage is None:
            return NO_WORKERS
        since = board.outage[0]
        duration = formatting.short_span((board.now - since).total_seconds())
        return f"No live worker since {since:%H:%M:%S} UTC ({duration}): no run will start"
    return _of_jobs(board)


def _of_jobs(board: JobsBoard) -> str:
    if not board.unhealthy:
        return "All jobs are healthy" if board.postgres else "Postgres does not answer"
    named = [_since(row, board) for row in board.unhealthy[:NAMED_JOBS]]
    more = len(board.unhealthy) - len(named)
    others = f" and {more} more" if more else ""
    verb = "is" if len(board.unhealthy) == 1 else "are"
    count = f"{len(board.unhealthy)} of {len(board.rows)} jobs {verb} unhealthy"
    return f"{count}: {', '.join(named)}{others}"


def _since(row: JobTableRow, board: JobsBoard) -> str:
    named = f"{row.key} {formatting.enum_text(row.reason)}" if row.reason else row.key
    if row.since is None:
        return named
    day = "" if row.since.date() == board.now.date() else f"{row.since:%Y-%m-%d} "
    duration = formatting.short_span((board.now - row.since).total_seconds())
    return f"{named} since {day}{row.since:%H:%M} ({duration})"


def table(board: JobsBoard) -> Markup:
    """The jobs table as HTML. It does not depend on the user."""
    return Markup(page("table.html", board=board))  # noqa: S704 - escaped by the template


def home(board: JobsBoard, drawn: Markup, user: object) -> str:
    """The front page as HTML, around the jobs table that is rendered already."""
    return page(
        "home.html",
        board=board,
        table=drawn,
        headline=headline(board),
        user=user,
        section="jobs",
        legend=tick_strip.LEGEND,
    )


def login(onward: str, fault: str) -> str:
    """The sign-in form as HTML. `onward`: path to redirect to; `fault`: message or empty."""
    return page("login.html", onward=onward, fault=fault, user=None)


def error(title: str, detail: str) -> str:
    """The error page as HTML."""
    return page("error.html", title=title, detail=detail, user=None)


def page(name: str, **values: object) -> str:
    """Render the template of that name."""
    return _environment.get_template(name).render(**values)


def _as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _create_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PACKAGE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
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
        clipped=formatting.clipped,
        sample=tick_strip.legend_sample,
        as_json=_as_json,
        decoded=_decoded,
        percent=formatting.fraction,
        chart_sample=line_chart.sample,
    )
    for name in environment.list_templates():
        environment.get_template(name)  # compiles it before the first request
    return environment


_environment = _create_environment()
