"""Health endpoints for the workers, one job and its badge, and `/metrics`. Redis is enough."""

import hmac
from xml.sax.saxutils import escape

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.core import printable
from app.core.enums import JobStatus
from app.health.judge import OverallReason
from app.health.metrics.families import CONTENT_TYPE
from app.web.context import web_context
from app.web.health import responses

OVERALL = "scheduler"  # name of the badge for all jobs
_WIDTH = 6.6  # pixels per character at font size 11, approximately
_COLOURS = {
    JobStatus.HEALTHY: "#1a7f37",
    JobStatus.UNHEALTHY: "#b3261e",
    JobStatus.NOT_STARTED: "#8a5a00",
    JobStatus.PAUSED: "#57606a",
}
_GREY = "#57606a"
_UNKNOWN_JOB = msgspec.json.encode({"status": "error", "reason": "unknown_job"})


async def workers(request: Request) -> Response:
    """The live workers. 503 if there is none."""
    snapshot = await web_context(request).snapshot.value()
    body = responses.workers(snapshot.workers, snapshot.reason, snapshot.taken_at)
    return _json(body, 200 if snapshot.workers else 503)


async def job(request: Request) -> Response:
    """All facts of one job. 200 if it is not at fault, 503 otherwise, 404 if unknown."""
    snapshot = await web_context(request).snapshot.value()
    found = snapshot.jobs.get(request.path_params["job"])
    if found is None and snapshot.reason is OverallReason.REDIS_UNREACHABLE:
        return _json(snapshot.scheduler, 503)
    if found is None:
        return _json(_UNKNOWN_JOB, 404)
    well = not found.health.at_fault
    reason = snapshot.reason if not snapshot.workers else None
    return _json(responses.job_details(found.facts, found.health, reason), 200 if well else 503)


async def badge(request: Request) -> Response:
    """The status of a job as an SVG badge. The name `scheduler` is the overall status."""
    snapshot = await web_context(request).snapshot.value()
    name: str = request.path_params["job"]
    if snapshot.reason is OverallReason.REDIS_UNREACHABLE:
        return _svg(name, "unknown", _GREY)
    if name == OVERALL:
        status = JobStatus.HEALTHY if snapshot.summary_healthy else JobStatus.UNHEALTHY
        return _svg(name, snapshot.reason or status, _COLOURS[status])
    found = snapshot.jobs.get(name)
    if found is None:
        return _svg(name, "no such job", _GREY, 404)
    health = found.health
    text = health.reason if health.needs_attention and health.reason else health.status
    return _svg(name, text, _COLOURS[health.status])


async def metrics(request: Request) -> Response:
    """All metrics in the Prometheus text format. 401 without the METRICS_TOKEN, if one is set."""
    context = web_context(request)
    token = context.config.metrics_token
    given = request.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(
        given.encode(), f"Bearer {token.get_secret_value()}".encode()
    ):
        return Response(b"unauthorized\n", 401, {"www-authenticate": "Bearer"}, "text/plain")
    body = await context.metrics.value()
    return Response(body, headers={"cache-control": "no-store", "content-type": CONTENT_TYPE})


def routes() -> list[BaseRoute]:
    """The routes of these endpoints and of `/metrics`."""
    return [
        Route("/health/workers", workers),
        Route("/health/jobs/{job}", job),
        Route("/badge/{job}.svg", badge),
        Route("/metrics", metrics),
    ]


def badge_svg(label: str, status: str, colour: str) -> str:
    """The badge as SVG. Its title repeats the text for screen readers."""
    label, status = escape(printable.line(label)[:60]), status.replace("_", " ")
    left, right = (round(len(part) * _WIDTH) + 12 for part in (label, status))
    width = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img">'
        f"<title>{label}: {status}</title>"
        f'<rect width="{width}" height="20" rx="3" fill="#24292f"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"'
        ' text-anchor="middle">'
        f'<text x="{left / 2:g}" y="14">{label}</text>'
        f'<text x="{left + right / 2:g}" y="14">{status}</text></g></svg>'
    )


def _svg(label: str, status: str, colour: str, code: int = 200) -> Response:
    headers = {"cache-control": "no-cache, max-age=0"}
    return Response(badge_svg(label, status, colour), code, headers, "image/svg+xml")


def _json(body: bytes, status: int) -> Response:
    return Response(body, status, {"cache-control": "no-store"}, "application/json")
