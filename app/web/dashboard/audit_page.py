"""The page of what people did: who, what, when and why."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.store.db import UNAVAILABLE
from app.store.reports import audit_listing
from app.store.reports.audit_listing import AuditFilter
from app.store.tenancy import transaction
from app.web.context import web_context
from app.web.dashboard import formatting, page_filters
from app.web.dashboard.rendering import page
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import html_response, postgres_unavailable

PER_PAGE = 50
CURSOR_NUMBERS = 2  # after the instant: the part and the id
MAX_DIGITS = 18


async def entries(request: Request, user: SessionUser) -> Response:
    """The acts on what the user may see, newest first. Raises HTTPException 400, 404."""
    context, org_id = web_context(request), user.org_id
    params = request.query_params
    fields = {name: page_filters.clean_text(params.get(name, "")) for name in ("job", "by")}
    filters = AuditFilter(
        org_id=org_id,
        job=fields["job"] or None,
        by=fields["by"] or None,
        after=_cursor(params.get("before", "")),
    )
    try:
        async with transaction(context.pool, org_id) as connection:
            rows = await audit_listing.entries(connection, filters, PER_PAGE + 1)
    except UNAVAILABLE:
        return postgres_unavailable(user)
    for row in rows:
        row["detail"] = {name: value for name, value in row["detail"].items() if value}
    values: dict[str, Any] = {
        "user": user,
        "section": "audit",
        "entries": rows[:PER_PAGE],
        "older": _older(rows, fields),
        "filters": fields,
    }
    return html_response(page("audit.html", **values))


def _older(rows: list[dict[str, Any]], fields: dict[str, str]) -> str:
    if len(rows) <= PER_PAGE:
        return ""
    last = rows[PER_PAGE - 1]
    before = f"{formatting.iso(last['at'])}_{last['part']}_{last['id']}"
    active = {name: value for name, value in fields.items() if value}
    return f"/audit?{urlencode(active | {'before': before})}"


def _cursor(text: str) -> tuple[datetime, int, int] | None:
    if not text:
        return None
    at, *numbers = text.split("_")
    if len(numbers) != CURSOR_NUMBERS or not all(
        number.isdecimal() and len(number) <= MAX_DIGITS for number in numbers
    ):
        raise HTTPException(400, "Invalid page cursor.")
    return page_filters.instant(at), int(numbers[0]), int(numbers[1])
