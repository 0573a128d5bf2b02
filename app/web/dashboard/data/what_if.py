"""What today's parser would read from a kept page, and what a replay of it would change."""

import asyncio
from typing import Any

import asyncpg
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core import redact
from app.core.errors import BadParameters, BadRecipe, Failure, UnknownJob
from app.core.messages import RawPage
from app.core.records import Record, Rejected
from app.runs import replay as replays
from app.runs.replay import ReplayReport
from app.store.db import UNAVAILABLE, Connection
from app.store.runs.replays import ReplayPage, load_page
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard.actions import postgres_unavailable_error
from app.web.dashboard.data import reading
from app.web.dashboard.data.raw_pages import find_page
from app.web.dashboard.session_auth import Form, SessionUser
from workers import parse
from workers.replays import PageReader, reader_of_page

SECONDS = 10.0
MAX_ROWS = 50
MAX_REJECTED = 20
Row = dict[str, Any]


async def replay(request: Request, user: SessionUser, _: Form) -> Response:
    """The records of the page by today's parser, and the difference to what is stored.

    Nothing is stored. Raises HTTPException 404, 409 if it cannot be parsed again, 503.
    """
    context = web_context(request)
    try:
        async with asyncio.timeout(SECONDS), transaction(context.pool, user.org_id) as connection:
            row = await find_page(request, user, connection)
            values = await _what_if(context, connection, row)
    except (UnknownJob, BadRecipe, BadParameters) as error:
        raise HTTPException(409, f"This page cannot be parsed again: {error}.") from None
    except (*UNAVAILABLE, asyncpg.QueryCanceledError):
        raise postgres_unavailable_error() from None
    return reading.respond("data/what_if.html", user, "", raw=row, **values)


async def _what_if(context: WebContext, connection: Connection, row: Row) -> dict[str, Any]:
    page = await reader_of_page(context.config, connection, row["source"], row["org_id"])
    kept = _kept(row)
    raw = None if row["partition"] is None else await load_page(connection, kept)
    if raw is None:
        raise HTTPException(409, "Retention has removed the body, or it lists partitions only.")
    try:
        records = await _parsed(context, page, raw)
    except Failure as failure:
        return _shown([], None, f"{failure.kind}: {redact.text(str(failure))}")
    report = await replays.compare_page(connection, page.reader, kept, records)
    return _shown(records, report, "")


async def _parsed(context: WebContext, page: PageReader, raw: RawPage) -> list[Record]:
    source = page.reader.source
    read = await parse.read_in_sandbox(context.dry_runner.sandbox, source, raw)
    return [page.as_stored(record) for record in await parse.records_of(source, read)]


def _kept(row: Row) -> ReplayPage:
    return ReplayPage(
        row["id"],
        row["execution_id"],
        row["partition"],
        row["expected"],
        row["page"],
        row["url"],
        row["status"],
        row["headers"],
        row["fetched_at"],
        row["body_hash"],
        refused=True,  # not known: the comparison counts those that it rejected, if any
    )


def _shown(records: list[Record], report: ReplayReport | None, failure: str) -> dict[str, Any]:
    kept = [record for record in records if not isinstance(record, Rejected)]
    rejected = [record for record in records if isinstance(record, Rejected)]
    return {
        "rows": [msgspec.to_builtins(record) for record in kept[:MAX_ROWS]],
        "found": len(kept),
        "rejected": rejected[:MAX_REJECTED],
        "refused": len(rejected),
        "report": report,
        "failure": failure,
    }
