"""The collection page of the signed-in organisation: schedule, runs and edits."""

from starlette.requests import Request
from starlette.responses import Response

from app.scheduling.schedule import Schedule
from app.store import beats, controls, history
from app.store import collection_page as store
from app.store.db import AWAY
from app.store.history import Wanted
from app.store.tenancy import org_transaction
from app.web.pages import page
from app.web.views import SAID, away, shown
from app.web.visitors import Visitor, desk_of

RUNS = 25
EDITS = 25


async def collection(request: Request, user: Visitor) -> Response:
    """The schedule of the organisation's collection, its last runs and its last edits."""
    context, org_id = desk_of(request), user.principal.org_id
    try:
        async with org_transaction(context.pool, org_id) as connection:
            now = await beats.database_now(connection)
            line = await store.of_org(connection, org_id)
            selection = None if line is None else Wanted(schedule_id=line.id)
            runs = [] if selection is None else await history.runs(connection, selection, RUNS)
            edits = [] if line is None else await controls.edits(connection, line.key, EDITS)
    except AWAY:
        return away(user)
    rule = "" if line is None else Schedule.from_spec(line.spec, name=line.key).describe()
    values = {"line": line, "rule": rule, "runs": runs, "edits": edits, "now": now}
    values["notice"] = SAID.get(request.query_params.get("done", ""), "")
    return shown(page("collections.html", user=user, section="collections", **values))
