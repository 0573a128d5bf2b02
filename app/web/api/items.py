"""Handler of /collection/items."""

from app.store import tenancy
from app.store.orgs import org_listing
from app.store.orgs.org_listing import OrgItemFilter
from app.web.api import cursor, schemas
from app.web.api.context import ApiRequest, ApiResponse


async def list_items(request: ApiRequest) -> ApiResponse:
    """List the collected items, most recently changed first."""
    query: schemas.ItemsQuery = request.query
    after = cursor.decode_instant_and_number(query.cursor)
    filters = OrgItemFilter(query.source, query.changed_since, query.missing)
    async with tenancy.org_transaction(request.context.pool, request.org_id) as connection:
        rows = await org_listing.items(connection, request.org_id, query.limit + 1, after, filters)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return ApiResponse(
        schemas.Items(
            items=[schemas.ItemBody.model_validate(row) for row in page],
            next_cursor=cursor.encode(last["changed_at"], last["id"]) if last else None,
        )
    )
