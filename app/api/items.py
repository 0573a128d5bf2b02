"""Handler of /collection/items."""

from app.api import cursor, shapes
from app.api.desk import Answer, Asking
from app.store import paged, tenancy
from app.store.paged import SoughtItems


async def list_items(request: Asking) -> Answer:
    """List the collected items, most recently changed first."""
    query: shapes.ItemsQuery = request.query
    after = cursor.instant_and_number(query.cursor)
    filters = SoughtItems(query.source, query.changed_since, query.missing)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        rows = await paged.items(connection, request.org_id, query.limit + 1, after, filters)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return Answer(
        shapes.Items(
            items=[shapes.Item.model_validate(row) for row in page],
            next_cursor=cursor.after(last["changed_at"], last["id"]) if last else None,
        )
    )
