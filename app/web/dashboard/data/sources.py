"""The page of a source: the ticks that were to collect it, and what each brought."""

from datetime import datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import SOURCE_TASK
from app.store.bounded import RowPage
from app.store.db import Connection
from app.store.runs import origins
from app.store.schedules import heartbeats
from app.web.context import web_context
from app.web.dashboard.data import reading
from app.web.dashboard.data.items import source_path
from app.web.dashboard.session_auth import SessionUser
from workers import registry


async def source(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The newest ticks of the schedules that collect the source. Raises HTTPException 404."""
    name = request.path_params["source"]
    after = reading.cursor_param(request, tuple[datetime, str])
    now = await heartbeats.database_now(connection)
    ticks = await origins.source_ticks(
        connection,
        name,
        _schedules(request, name),
        after or (now + timedelta(days=1), ""),
        reading.PER_PAGE + 1,
        user.org_id,
    )
    if not ticks and after is None:
        raise HTTPException(404, "No schedule collects this source, or it has had no tick yet.")
    found = RowPage.of(ticks, reading.PER_PAGE, "scheduled_for", "key")
    path = f"/data/sources/{name}"
    return reading.respond(
        "data/source.html",
        user,
        "",
        source=name,
        ticks=found.rows,
        now=now,
        items_path=source_path(name),
        older=reading.next_link(path, {}, found.after),
        first_page=path if after else "",
    )


def _schedules(request: Request, source: str) -> list[str]:
    built_in = registry.source_jobs(web_context(request).config)
    return [f"{SOURCE_TASK}:{source}", *([built_in[source]] if source in built_in else [])]
