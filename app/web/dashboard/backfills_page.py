"""Backfills: the counts first, then the request; and how far each is. The workers execute them."""

from collections.abc import Mapping
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import COLLECTION_TASK
from app.core.errors import BadSchedule, InvalidValue, UnknownJob
from app.ledger import backfill
from app.ledger.backfill import BackfillPlan, BackfillRequest
from app.store.db import UNAVAILABLE, Connection
from app.store.schedules import backfills as store
from app.store.schedules import heartbeats
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import actions, notices, page_filters
from app.web.dashboard.session_auth import Form, SessionUser
from app.web.dashboard.views import find_schedule, postgres_unavailable, respond

SHOWN = 50
MAX_CONCURRENCY = 100
MAX_DIGITS = 3
DEFAULT_NAME = "backfill"
UNPROCESSABLE = 422


async def backfills(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The newest backfills of the operator's jobs, and how far they are."""
    rows = await store.recent(connection, SHOWN + 1)
    notice = notices.notice(request.query_params)
    shown, more = rows[:SHOWN], len(rows) > SHOWN
    return respond("backfills.html", user, "runs", backfills=shown, more=more, notice=notice)


async def plan(request: Request, user: SessionUser) -> Response:
    """The form, and once it has a range, how many runs it would be. Raises HTTPException 404."""
    context, params = web_context(request), request.query_params
    planned: BackfillPlan | None = None
    fault = ""
    try:
        key = await _key(request, user)
        if params.get("since") and params.get("until"):
            planned = await _plan(context, user, key, params)
    except HTTPException as error:
        if error.status_code != UNPROCESSABLE:
            raise
        key, fault = request.path_params["key"], error.detail
    except UNAVAILABLE:
        return postgres_unavailable(user)
    names = ("since", "until", "missing", "concurrency", "name")
    fields = {name: page_filters.clean_text(params.get(name, "")) for name in names}
    return respond("backfill.html", user, "jobs", key=key, fault=fault, plan=planned, fields=fields)


async def start(request: Request, user: SessionUser, form: Form) -> Response:
    """Record the backfill; the workers go on with it. Raises HTTPException 404, 422, 503."""
    context = web_context(request)
    try:
        key = await _key(request, user)
        planned = await _plan(context, user, key, form)
        if planned.todo:
            now = await heartbeats.database_now(context.pool)
            await backfill.start(context.pool, planned, now)
    except UNAVAILABLE:
        raise actions.postgres_unavailable_error() from None
    return actions.redirect(f"/backfills?done={'backfill' if planned.todo else 'no_backfill'}")


async def stop(request: Request, user: SessionUser, form: Form) -> Response:
    """Add no more runs to a backfill. Raises HTTPException 409 if it is over, 503."""
    context, backfill_id = web_context(request), request.path_params["id"]
    by, reason = user.principal.name, actions.reason_of(form)
    try:
        now = await heartbeats.database_now(context.pool)
        stopped = await backfill.stop(context.pool, backfill_id, now, by=by, reason=reason)
    except UNAVAILABLE:
        raise actions.postgres_unavailable_error() from None
    if not stopped:
        raise HTTPException(409, "This backfill is over.")
    return actions.redirect("/backfills?done=stopped")


async def _key(request: Request, user: SessionUser) -> str:
    """The job of the path. Backfills of collections are requested on the command line."""
    org_id = user.org_id
    async with transaction(web_context(request).pool, org_id) as connection:
        line = await find_schedule(connection, request.path_params["key"], org_id)
    if line.job == COLLECTION_TASK:
        raise HTTPException(404, "Backfills of a collection are requested on the command line.")
    return line.key


async def _plan(
    context: WebContext, user: SessionUser, key: str, fields: Mapping[str, str]
) -> BackfillPlan:
    since, until = (_instant(fields.get(name, "")) for name in ("since", "until"))
    concurrency = fields.get("concurrency", "") or "1"
    if not (concurrency.isdecimal() and len(concurrency) <= MAX_DIGITS) or not (
        1 <= int(concurrency) <= MAX_CONCURRENCY
    ):
        raise HTTPException(422, f"Runs at the same time: 1 to {MAX_CONCURRENCY}.")
    wanted = BackfillRequest(
        key,
        since,
        until,
        user.principal.name,
        page_filters.clean_text(fields.get("name", "")) or DEFAULT_NAME,
        missing=bool(fields.get("missing")),
        concurrency=int(concurrency),
        reason=page_filters.clean_text(fields.get("note", "")),
    )
    try:
        now = await heartbeats.database_now(context.pool)
        return await backfill.make_plan(context.pool, wanted, now)
    except (BadSchedule, InvalidValue, UnknownJob) as error:
        raise HTTPException(422, str(error)) from None


def _instant(text: str) -> datetime:
    try:
        return page_filters.instant(text)
    except HTTPException:
        raise HTTPException(422, "Enter the first and the last instant.") from None
