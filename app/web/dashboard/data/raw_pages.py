"""Pages as the sites sent them: those kept of a run, and one with headers and body as text."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.store.bounded import RowPage
from app.store.content import page_listing, pages
from app.store.db import Connection
from app.store.runs.origins import origins
from app.web.dashboard import job_labels
from app.web.dashboard.data import reading
from app.web.dashboard.session_auth import NO_STORE, SessionUser
from app.web.dashboard.views import find_run

MAX_SHOWN = 100_000  # characters of a body on its page
CHARSET = re.compile(r"charset=\"?([\w-]{1,40})", re.IGNORECASE)


async def of_run(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The kept pages of a run, in the order of their fetching. Raises HTTPException 404."""
    run_id = request.path_params["run_id"]
    run = await find_run(connection, run_id, user.org_id)
    source = reading.text_param(request, "source")
    after = reading.cursor_param(request, tuple[int])
    rows = await page_listing.of_run(
        connection,
        run_id,
        user.org_id,
        source or None,
        after[0] if after else 0,
        reading.PER_PAGE + 1,
    )
    found, path = RowPage.of(rows, reading.PER_PAGE, "id"), f"/runs/{run_id}/pages"
    return reading.respond(
        "data/run_pages.html",
        user,
        "",
        run=run,
        labels=await job_labels.labels(connection, user, [run["job"]]),
        pages=found.rows,
        **reading.paging(request, path, {"source": source}, found),
    )


async def raw_page(request: Request, user: SessionUser, connection: Connection) -> Response:
    """One kept page: its headers, and its body as text. Raises HTTPException 404."""
    row = await find_page(request, user, connection)
    body = await pages.load_body(connection, row["body_hash"])
    text = None if body is None else _decode(body, row["headers"])
    return reading.respond(
        "data/raw_page.html",
        user,
        "",
        raw=row,
        text=None if text is None else text[:MAX_SHOWN],
        characters=0 if text is None else len(text),
        origins=await origins(connection, [row["execution_id"]], user.org_id),
    )


async def raw_body(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The body of a kept page as a download, never shown by the browser. Raises HTTP 404."""
    row = await find_page(request, user, connection)
    body = await pages.load_body(connection, row["body_hash"])
    if body is None:
        raise HTTPException(404, "Retention has removed the body of this page.")
    headers = NO_STORE | {"content-disposition": f'attachment; filename="page-{row["id"]}.bin"'}
    return Response(body, 200, headers, "application/octet-stream")


async def find_page(request: Request, user: SessionUser, connection: Connection) -> dict[str, Any]:
    """Return the kept page of the address, without its body. Raises HTTPException 404."""
    page_id = request.path_params["page_id"]
    row = await page_listing.raw_page(connection, page_id, user.org_id)
    if row is None:
        raise HTTPException(404, "No such page, or retention has removed it.")
    return row


def _decode(body: bytes, headers: Mapping[str, str]) -> str:
    named = CHARSET.search(headers.get("content-type", ""))
    try:
        text = body.decode(named[1] if named else "utf-8", "replace")
    except (LookupError, UnicodeError):  # UnicodeError: a codec that does not replace
        text = body.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode()  # some codecs yield halves of a character
