"""The page of rejected records across runs."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from app.store.content import page_listing
from app.store.content.page_listing import RejectionFilter
from app.store.db import Connection
from app.store.runs.origins import origins
from app.web.dashboard.data import reading
from app.web.dashboard.session_auth import SessionUser

PATH = "/data/rejected"


async def rejected(request: Request, user: SessionUser, connection: Connection) -> Response:
    """Rejected records of all runs, newest first, with reason and page."""
    source, reason = reading.text_param(request, "source"), reading.text_param(request, "reason")
    filters = RejectionFilter(user.org_id, source or None, reason or None)
    after = reading.cursor_param(request, tuple[datetime, int])
    found = await page_listing.rejected(connection, filters, after, reading.PER_PAGE)
    run_ids = (row["execution_id"] for row in found.rows)
    return reading.respond(
        "data/rejected.html",
        user,
        "rejected",
        records=found.rows,
        origins=await origins(connection, run_ids, user.org_id),
        **reading.paging(request, PATH, {"source": source, "reason": reason}, found),
    )
