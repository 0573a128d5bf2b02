"""The collection page: schedule, runs and edits of an organisation; for the operator, a list."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from app.core.collection_keys import collection_name
from app.core.errors import BadSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection
from app.store.orgs import collection_page as store
from app.store.orgs.collection_page import CollectionSummary
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.schedules import heartbeats
from app.web.dashboard import notices
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import respond

RUNS = 25
MAX_SHOWN = 20  # collections of one organisation on its page
MAX_LISTED = 500  # collections of all organisations
EDITS = 25


async def collection(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The schedules of the organisation's collections, with their last runs and edits."""
    org_id, now = user.org_id, await heartbeats.database_now(connection)
    if org_id is None:
        return await _all(connection, user, now)
    found = await store.of_org(connection, org_id, MAX_SHOWN + 1)
    lines = found[:MAX_SHOWN]
    share, ids = max(1, len(lines)), [line.id for line in lines]
    last = await store.last_runs(connection, ids, max(1, RUNS // share))
    runs = await listing.runs(connection, RunFilter(ids=last, org_id=org_id), len(last))
    edits = await store.last_edits(connection, ids, max(1, EDITS // share))
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
    paused = [line.paused_at is not None for line in lines]
    notice, more = notices.notice(request.query_params, paused=paused), len(found) > len(lines)
    return respond(
        "collections.html", user, "collections", shown=shown, more=more, now=now, notice=notice
    )


async def _all(connection: Connection, user: SessionUser, now: datetime) -> Response:
    listed = await store.of_all(connection, MAX_LISTED + 1)
    return respond(
        "all_collections.html",
        user,
        "collections",
        listed=listed[:MAX_LISTED],
        labels={line["key"]: collection_name(line["key"]) for line in listed},
        more=len(listed) > MAX_LISTED,
        now=now,
    )


def _describe(line: CollectionSummary) -> tuple[str, datetime | None]:
    """Return the schedule in words, and its next tick that is not excluded."""
    try:
        schedule = Schedule.from_spec(line.spec, name=line.key, stamp=line.zone_data)
        next_run = Policies.from_spec(line.policies).next_run_from(schedule, line.next_tick_at)
        return schedule.describe(), next_run
    except BadSchedule as error:
        return str(error), line.next_tick_at
