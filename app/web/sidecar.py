"""The health addresses beside the overall ones: workers, one job, its badge. From Redis alone."""

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.health.judge import OverallReason
from app.web import answers
from app.web.metrics import metrics
from app.words import JobStatus

if TYPE_CHECKING:
    from app.web.health import Snapshot
    from app.web.state import State

WHOLE = "scheduler"  # the badge of all jobs together
_WIDTH = 6.6  # of a character at 11 pixels, roughly
_COLOURS = {
    JobStatus.HEALTHY: "#1a7f37",
    JobStatus.UNHEALTHY: "#b3261e",
    JobStatus.NOT_STARTED: "#8a5a00",
    JobStatus.PAUSED: "#57606a",
}
_GREY = "#57606a"
_UNKNOWN_JOB = msgspec.json.encode({"status": "error", "reason": "unknown_job"})


async def workers(request: Request) -> Response:
    """The workers that beat. 503 if there is none."""
    snapshot = await _snapshot(request)
    body = answers.workers(snapshot.workers, snapshot.reason, snapshot.taken_at)
    return _json(body, 200 if snapshot.workers else 503)


async def job(request: Request) -> Response:
    """One job, with all that is known of it. 404 if there is none of that name."""
    snapshot = await _snapshot(request)
    known = snapshot.jobs.get(request.path_params["job"])
    if known is None and snapshot.reason is OverallReason.REDIS_UNREACHABLE:
        return _json(snapshot.scheduler, 503)
    if known is None:
        return _json(_UNKNOWN_JOB, 404)
    well = known.verdict.status in {JobStatus.HEALTHY, JobStatus.PAUSED}
    idle = snapshot.reason if not snapshot.workers else None
    return _json(answers.one_job(known.facts, known.verdict, idle), 200 if well else 503)


async def badge(request: Request) -> Response:
    """How a job stands, as a small picture. `scheduler` is all of them together."""
    snapshot = await _snapshot(request)
    name: str = request.path_params["job"]
    if snapshot.reason is OverallReason.REDIS_UNREACHABLE:
        return _svg(name, "unknown", _GREY)
    if name == WHOLE:
        status = JobStatus.HEALTHY if snapshot.summary_well else JobStatus.UNHEALTHY
        return _svg(name, snapshot.reason or status, _COLOURS[status])
    known = snapshot.jobs.get(name)
    if known is None:
        return _svg(name, "no such job", _GREY, 404)
    verdict = known.verdict
    word = verdict.reason if verdict.ill and verdict.reason else verdict.status
    return _svg(name, word, _COLOURS[verdict.status])


def routes() -> list[BaseRoute]:
    """The addresses of this room."""
    return [
        Route("/health/workers", workers),
        Route("/health/jobs/{job}", job),
        Route("/badge/{job}.svg", badge),
        Route("/metrics", metrics),
    ]


def picture(label: str, word: str, colour: str) -> str:
    """The badge itself. The words are in its title too, so that they can be heard."""
    label, word = escape(label[:60]), word.replace("_", " ")
    left, right = (round(len(part) * _WIDTH) + 12 for part in (label, word))
    width = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img">'
        f"<title>{label}: {word}</title>"
        f'<rect width="{width}" height="20" rx="3" fill="#24292f"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"'
        ' text-anchor="middle">'
        f'<text x="{left / 2:g}" y="14">{label}</text>'
        f'<text x="{left + right / 2:g}" y="14">{word}</text></g></svg>'
    )


def _svg(label: str, word: str, colour: str, status: int = 200) -> Response:
    headers = {"cache-control": "no-cache, max-age=0"}
    return Response(picture(label, word, colour), status, headers, "image/svg+xml")


def _json(body: bytes, status: int) -> Response:
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


async def _snapshot(request: Request) -> "Snapshot":
    state: State = request.state.web
    return await state.snapshot.value()
