"""The page for people: how each job stands and what ran last. Rendered here, no JavaScript."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from app.health.judge import OverallReason
from app.web.health import Snapshot
from app.words import JobStatus, RunStatus

HERE = Path(__file__).parent
STATIC = HERE / "static"

# Shape beside colour, so that a state can be read without seeing the colour.
_GLYPHS: dict[str, str] = {
    JobStatus.HEALTHY: "●",
    JobStatus.UNHEALTHY: "▲",
    JobStatus.NOT_STARTED: "○",
    JobStatus.PAUSED: "■",
    RunStatus.SUCCESS: "●",
    RunStatus.PARTIAL_FAILURE: "◐",
    RunStatus.RUNNING: "▶",
    RunStatus.QUEUED: "○",
}
_HEADLINES = {
    OverallReason.REDIS_UNREACHABLE: "Redis does not answer, so nothing is known of the jobs",
    OverallReason.NO_JOBS: "No job is known: no worker has started yet",
    OverallReason.NO_WORKERS: "No worker is beating: nothing will run",
}
NOTHING = "\N{EN DASH}"
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def home(snapshot: Snapshot, runs: Sequence[Mapping[str, Any]] | None) -> str:
    """The whole page. `runs` is None if Postgres did not give them."""
    ill = sum(
        job.verdict.status in {JobStatus.UNHEALTHY, JobStatus.NOT_STARTED}
        for job in snapshot.jobs.values()
    )
    return _page.render(
        snapshot=snapshot,
        well=snapshot.summary_well,
        headline=headline(snapshot, ill),
        runs=runs,
    )


def headline(snapshot: Snapshot, ill: int) -> str:
    """The one sentence that says how it all stands."""
    if snapshot.reason:
        return _HEADLINES[snapshot.reason]
    if ill:
        return f"{ill} of {len(snapshot.jobs)} jobs need a look"
    return "Every job is on time"


def span(seconds: float | None) -> str:
    """Seconds in the two largest units that fit: `4 min 12 s`."""
    if seconds is None:
        return NOTHING
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def instant(value: datetime | None) -> str:
    """`2026-03-01 12:00:05`, in UTC as the page says once."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def words(value: str | None) -> str:
    """A closed word as one would say it: `not_started` is `not started`."""
    return NOTHING if value is None else value.replace("_", " ")


def glyph(value: str) -> str:
    """The shape of a state."""
    return _GLYPHS.get(value, "▲")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(span=span, instant=instant, words=words, glyph=glyph)
    return environment


_page = _environment().get_template("home.html")
