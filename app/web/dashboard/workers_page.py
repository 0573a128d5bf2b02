"""The page of the live workers: version, memory, clock, zone data, and what they run."""

from collections import defaultdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.core import zone_data
from app.core.enums import RunStatus
from app.core.version import VERSION
from app.health.judge import OverallReason
from app.store.db import UNAVAILABLE
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.tenancy import transaction
from app.web.context import web_context
from app.web.dashboard.rendering import page
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import html_response

MAX_RUNNING = 500


async def workers(request: Request, user: SessionUser) -> Response:
    """The live workers, as Redis knows them, and their runs, as Postgres does."""
    context, org_id = web_context(request), user.org_id
    snapshot = await context.snapshot.value()
    running: dict[str, list[dict[str, Any]]] | None = None
    try:
        async with transaction(context.pool, org_id) as connection:
            filters = RunFilter(statuses=[RunStatus.RUNNING], org_id=org_id)
            rows = await listing.runs(connection, filters, MAX_RUNNING)
    except UNAVAILABLE:
        pass
    else:
        running = defaultdict(list)
        for row in rows:
            running[row["worker"]].append(row)
    values: dict[str, Any] = {
        "user": user,
        "section": "workers",
        "workers": sorted(snapshot.workers.items()),
        "now": snapshot.taken_at,
        "redis": snapshot.reason is not OverallReason.REDIS_UNREACHABLE,
        "running": running,
        "version": VERSION,
        "zone_data": zone_data.VERSION,
    }
    return html_response(page("workers.html", **values))
