"""Handler of /collection/items."""

from app.store import tenancy
from app.store.orgs import org_listing
from app.store.orgs.org_listing import SoughtItems
from app.web.api import cursor, schemas
from app.web.api.context import Answer, Asking


async def list_items(request: Asking) -> Answer:
    """List the collected items, most recently changed first."""
    query: schemas.ItemsQuery = request.query
    after = cursor.instant_and_number(query.cursor)
    filters = SoughtItems(query.source, query.changed_since, query.missing)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        rows = await org_listing.items(connection, request.org_id, query.limit + 1, after, filters)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return Answer(
        schemas.Items(
            items=[schemas.Item.model_validate(row) for row in page],
            next_cursor=cursor.after(last["changed_at"], last["id"]) if last else None,
        )
    )
