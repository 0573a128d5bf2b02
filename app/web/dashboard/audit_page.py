"""The page of what people did: who, what, when and why."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from app.store.bounded import RowPage
from app.store.db import Connection
from app.store.reports import audit_listing, tick_listing
from app.store.reports.audit_listing import AuditFilter
from app.web.dashboard import job_labels
from app.web.dashboard.data import reading
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import respond

PER_PAGE = 50


async def entries(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The acts on what the user may see, newest first. Raises HTTPException 400."""
    fields = {name: reading.text_param(request, name) for name in ("job", "by")}
    filters = AuditFilter(
        org_id=user.org_id,
        job=fields["job"] or None,
        by=fields["by"] or None,
        after=reading.cursor_param(request, tuple[datetime, int, int]),
    )
    rows = await audit_listing.entries(connection, filters, PER_PAGE + 1)
    found = RowPage.of(rows, PER_PAGE, "at", "part", "id")
    for row in found.rows:
        row["detail"] = {name: value for name, value in row["detail"].items() if value}
    jobs = list((await tick_listing.jobs(connection, org_id=user.org_id)).values())
    keys = [*jobs, fields["job"], *(row["job"] for row in found.rows)]
    return respond(
        "audit.html",
        user,
        "audit",
        jobs=jobs,
        labels=await job_labels.labels(connection, user, keys),
        entries=found.rows,
        older=reading.next_link("/audit", fields, found.after),
        filters=fields,
    )
