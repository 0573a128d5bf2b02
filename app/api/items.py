"""The items' address: what was collected, the last changed first."""

from app.api import cursor, shapes
from app.api.desk import Answer, Asking
from app.store import paged, tenancy
from app.store.paged import SoughtItems


async def list_items(asking: Asking) -> Answer:
    """List what was collected, the last changed first."""
    page: shapes.ItemsQuery = asking.query
    after = cursor.instant_and_number(page.cursor)
    sought = SoughtItems(page.source, page.changed_since, page.missing)
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        rows = await paged.items(connection, asking.org_id, page.limit + 1, after, sought)
    shown, more = rows[: page.limit], len(rows) > page.limit
    last = shown[-1] if more else None
    return Answer(
        shapes.Items(
            items=[shapes.Item.model_validate(row) for row in shown],
            next_cursor=cursor.after(last["changed_at"], last["id"]) if last else None,
        )
    )
