"""The collection page: schedule, runs and edits of an organisation; for the operator, a list."""

from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.core.collection_keys import collection_name
from app.core.errors import BadSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import UNAVAILABLE
from app.store.orgs import collection_page as store
from app.store.orgs.collection_page import CollectionSummary
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.schedules import heartbeats
from app.store.tenancy import org_transaction
from app.web.context import web_context
from app.web.dashboard import notices
from app.web.dashboard.rendering import page
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import html_response, postgres_unavailable

RUNS = 25
MAX_SHOWN = 20  # collections of one organisation on its page
MAX_LISTED = 500  # collections of all organisations
EDITS = 25


async def collection(request: Request, user: SessionUser) -> Response:
    """The schedules of the organisation's collections, with their last runs and edits."""
    context, org_id = web_context(request), user.org_id
    if org_id is None:
        return await _all(request, user)
    try:
        async with org_transaction(context.pool, org_id) as connection:
            now = await heartbeats.database_now(connection)
            found = await store.of_org(connection, org_id, MAX_SHOWN + 1)
            lines = found[:MAX_SHOWN]
            share, ids = max(1, len(lines)), [line.id for line in lines]
            last = await store.last_runs(connection, ids, max(1, RUNS // share))
            runs = await listing.runs(connection, RunFilter(ids=last, org_id=org_id), len(last))
            edits = await store.last_edits(connection, ids, max(1, EDITS // share))
    except UNAVAILABLE:
        return postgres_unavailable(user)
    shown = [
        {
            "line": line,
            "name": collection_name(line.key),
            "rule": _describe(line),
            "runs": [run for run in runs if run["job"] == line.key],
            "edits": [edit for edit in edits if edit["schedule_id"] == line.id],
        }
        for line in lines
    ]
    notice = notices.notice(request.query_params)
    values = {"shown": shown, "more": len(found) > len(lines), "now": now, "notice": notice}
    return html_response(page("collections.html", user=user, section="collections", **values))


async def _all(request: Request, user: SessionUser) -> Response:
    try:
        async with web_context(request).pool.acquire() as connection:
            now = await heartbeats.database_now(connection)
            listed = await store.of_all(connection, MAX_LISTED + 1)
    except UNAVAILABLE:
        return postgres_unavailable(user)
    values: dict[str, Any] = {
        "listed": listed[:MAX_LISTED],
        "labels": {line["key"]: collection_name(line["key"]) for line in listed},
        "more": len(listed) > MAX_LISTED,
        "now": now,
    }
    return html_response(page("all_collections.html", user=user, section="collections", **values))


def _describe(line: CollectionSummary) -> tuple[str, datetime | None]:
    """Return the schedule in words, and its next tick that is not excluded."""
    try:
        schedule = Schedule.from_spec(line.spec, name=line.key, stamp=line.zone_data)
        next_run = Policies.from_spec(line.policies).next_run_from(schedule, line.next_tick_at)
        return schedule.describe(), next_run
    except BadSchedule as error:
        return str(error), line.next_tick_at
