"""The page of all runs: filters, search in errors, paging."""

from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import RunStatus, Trigger
from app.store.db import Connection
from app.store.reports import tick_listing
from app.store.runs import run_pages
from app.store.schedules import heartbeats
from app.web.dashboard import job_labels, notices, page_filters
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import respond

PER_PAGE = 50


async def runs(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The runs that the user may see, newest first, with filters. Raises HTTPException 400, 404."""
    now = await heartbeats.database_now(connection)
    query = page_filters.run_query(request.query_params, user.org_id, now)
    found = await run_pages.run_page(connection, query.filters, PER_PAGE)
    jobs = await tick_listing.jobs(connection, org_id=user.org_id)
    keys = [*jobs.values(), *(run["job"] for run in found.rows)]
    return respond(
        "runs.html",
        user,
        "runs",
        now=now,
        jobs=list(jobs.values()),
        labels=await job_labels.labels(connection, user, keys),
        statuses=list(RunStatus),
        triggers=list(Trigger),
        periods=list(page_filters.PERIODS),
        notice=notices.notice(request.query_params, "run"),
        **page_filters.page_of_runs(query, found, "/runs"),
    )
