"""Handler of /collection/items."""

from datetime import datetime
from typing import Any

import msgspec

from app.core.enums import Scope
from app.store.db import Connection
from app.store.orgs import org_listing
from app.store.orgs.org_listing import OrgItemFilter
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.schemas.items import ItemBody, Items, ItemsQuery

MAX_PAGE_BYTES = 1_000_000  # of the data of a page's items; a page ends after the one that exceeds
ROWS_PER_READ = 50


async def list_items(request: ApiRequest) -> ApiResponse:
    """List the collected items, most recently changed first."""
    query: ItemsQuery = request.query
    after = cursor.decode(query.cursor, cursor.Instant, cursor.Number)
    filters = OrgItemFilter(query.source, query.changed_since, query.missing)
    async with request.transaction() as connection:
        rows, more = await _page(connection, request, after, filters)
    page = rows[: query.limit]
    last = page[-1] if more or len(rows) > query.limit else None
    return ApiResponse(
        Items(
            items=[ItemBody.model_validate(row) for row in page],
            next_cursor=cursor.encode(last["changed_at"], last["id"]) if last else None,
        )
    )


async def _page(
    connection: Connection,
    request: ApiRequest,
    after: tuple[datetime, int] | None,
    filters: OrgItemFilter,
) -> tuple[list[dict[str, Any]], bool]:
    """Return the items of a page and one more, and whether its size has ended it before that.

    They are read a few at a time: an item may have 256 KB.
    """
    wanted, size = request.query.limit + 1, 0
    rows: list[dict[str, Any]] = []
    while len(rows) < wanted:
        count = min(ROWS_PER_READ, wanted - len(rows))
        some = await org_listing.items(connection, request.org_id, count, after, filters)
        for row in some:
            rows.append(row)
            size += len(msgspec.json.encode(row["data"]))
            if size > MAX_PAGE_BYTES:
                return rows, True
        if len(some) < count:
            break
        after = some[-1]["changed_at"], some[-1]["id"]
    return rows, False


ENDPOINTS: tuple[Endpoint, ...] = (
    get("/collection/items", Scope.READ, list_items, Items, query=ItemsQuery),
)
