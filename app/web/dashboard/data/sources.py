"""The page of a source: the ticks that were to collect it, and what each brought."""

from datetime import datetime, timedelta
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.core.enums import SOURCE_TASK
from app.store.bounded import RowPage
from app.store.content import item_listing
from app.store.db import Connection
from app.store.runs import listing, origins
from app.store.schedules import heartbeats, schedule_rows
from app.web.context import web_context
from app.web.dashboard.data import reading
from app.web.dashboard.data.items import MAX_SOURCES, source_path
from app.web.dashboard.session_auth import NO_STORE, SessionUser
from workers import registry


async def source(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The newest ticks of the schedules that collect the source. Raises HTTPException 404.

    What a job of the operator stores under a name of its own leads to the page of that job.
    """
    name = request.path_params["source"]
    after = reading.cursor_param(request, tuple[datetime, str])
    now = await heartbeats.database_now(connection)
    schedules = _schedules(request, name)
    ticks = await origins.source_ticks(
        connection,
        name,
        schedules,
        after or (now + timedelta(days=1), ""),
        reading.PER_PAGE + 1,
        user.org_id,
    )
    if not ticks and after is None:
        if user.org_id is not None:
            raise HTTPException(404, "No schedule collects this source, or it has had no tick yet.")
        if not any([await schedule_rows.one(connection, key) for key in schedules]):
            job = await _job_of_items(connection, name)
            if job is None:
                raise HTTPException(404, "No schedule collects this source.")
            return RedirectResponse(f"/jobs/{quote(job, safe='')}", 303, NO_STORE)
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


async def _job_of_items(connection: Connection, source: str) -> str | None:
    """The job of the run that last changed an item of the source, of the operator's."""
    stored = await item_listing.sources(connection, None, MAX_SOURCES)
    for row in stored:
        if row["source"] == source and row["run_id"] is not None:
            run = await listing.run(connection, row["run_id"], None)
            return None if run is None else run["job"]
    return None


def _schedules(request: Request, source: str) -> list[str]:
    built_in = registry.source_jobs(web_context(request).config)
    return [f"{SOURCE_TASK}:{source}", *([built_in[source]] if source in built_in else [])]
