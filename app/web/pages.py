"""The pages for people, rendered here; they need no JavaScript."""

from pathlib import Path
from typing import Any, cast

import msgspec
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from app.health.judge import OverallReason
from app.web import plain, strip
from app.web.board import Board
from app.web.rows import Row

HERE = Path(__file__).parent
STATIC = HERE / "static"
NAMED = 3  # jobs that the headline names

_HEADLINES: dict[str, str] = {
    OverallReason.REDIS_UNREACHABLE: "Redis does not answer, so nothing is known of the jobs",
    OverallReason.NO_JOBS: "No job is known: no worker has started yet",
}
NO_WORKERS = "No worker is beating: nothing will run"


def headline(board: Board) -> str:
    """The one sentence that says how it all stands, and since when."""
    if not board.redis:
        return _HEADLINES[OverallReason.REDIS_UNREACHABLE]
    if not board.rows:
        return _HEADLINES[OverallReason.NO_JOBS]
    if not board.workers:
        if board.outage is None:
            return NO_WORKERS
        since = board.outage[0]
        lasts = plain.about((board.now - since).total_seconds())
        return f"No worker has been beating since {since:%H:%M:%S} UTC ({lasts}): nothing will run"
    return _of_jobs(board)


def _of_jobs(board: Board) -> str:
    if not board.ill:
        return "Every job is on time" if board.postgres else "Postgres does not answer"
    named = [_since(row, board) for row in board.ill[:NAMED]]
    more = len(board.ill) - len(named)
    others = f" and {more} more" if more else ""
    verb = "needs" if len(board.ill) == 1 else "need"
    return f"{len(board.ill)} of {len(board.rows)} jobs {verb} a look: {', '.join(named)}{others}"


def _since(row: Row, board: Board) -> str:
    named = f"{row.key} {plain.words(row.reason)}" if row.reason else row.key
    if row.since is None:
        return named
    day = "" if row.since.date() == board.now.date() else f"{row.since:%Y-%m-%d} "
    lasts = plain.about((board.now - row.since).total_seconds())
    return f"{named} since {day}{row.since:%H:%M} ({lasts})"


def table(board: Board) -> Markup:
    """The table of all jobs, the same for everybody."""
    return Markup(page("table.html", board=board))  # noqa: S704 - escaped by the template


def home(board: Board, drawn: Markup, visitor: object) -> str:
    """The dashboard, with its table drawn already."""
    return page(
        "home.html",
        board=board,
        table=drawn,
        headline=headline(board),
        visitor=visitor,
        here="jobs",
        legend=strip.LEGEND,
    )


def login(onward: str, fault: str) -> str:
    """The form at the door."""
    return page("login.html", onward=onward, fault=fault, visitor=None)


def error(title: str, detail: str) -> str:
    """What went wrong, in a sentence. Never a trace."""
    return page("error.html", title=title, detail=detail, visitor=None)


def page(name: str, **values: object) -> str:
    """The page of that name."""
    return _environment.get_template(name).render(**values)


def _as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _made() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = cast("dict[str, Any]", environment.filters)
    filters.update(
        about=plain.about,
        span=plain.span,
        instant=plain.instant,
        clock=plain.clock,
        iso=plain.iso,
        local=plain.local,
        words=plain.words,
        glyph=plain.glyph,
        share=plain.share,
        number=plain.number,
        clipped=plain.clipped,
        sample=strip.sample,
        as_json=_as_json,
        decoded=_decoded,
    )
    for name in environment.list_templates():
        environment.get_template(name)  # so that the first visitor does not wait for it
    return environment


_environment = _made()
