"""Pages of items: the sources that have some, the items of one, and one item."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.errors import BadRecipe
from app.sources.recipes.load import load
from app.sources.recipes.model import FEED_COLUMNS, Recipe
from app.sources.recipes.source import ORG_SOURCE_PREFIX
from app.store.bounded import MAX_EXAMINED, RowPage
from app.store.content import changes as history
from app.store.content import item_listing
from app.store.content.item_listing import ItemFilter
from app.store.db import Connection
from app.store.orgs import org_sources, orgs
from app.store.runs.origins import origins
from app.store.schedules import heartbeats
from app.web.context import web_context
from app.web.dashboard.data import reading
from app.web.dashboard.session_auth import SessionUser
from workers import recipe_dir

PATH = "/data/items"
MAX_SOURCES = 500
MAX_COLUMNS = 30  # of a source without a recipe
MAX_OFFSET = MAX_EXAMINED
CHANGES = 100  # of one item
STATES = {"": None, "present": False, "missing": True}


async def sources(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The sources of which items are stored, of the user's organisation or of the chosen owner."""
    owner = await _owner(request, user, connection)
    found = await item_listing.sources(connection, owner, MAX_SOURCES)
    return reading.respond(
        "data/item_sources.html",
        user,
        "items",
        sources=found,
        now=await heartbeats.database_now(connection),
        origins=await origins(connection, (row["run_id"] for row in found), user.org_id),
        owner=request.query_params.get("org", ""),
        query=_owner_query(request),
        source_path=source_path,
    )


async def items(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The items of one source: the columns of its recipe, filter, search, order and paging."""
    owner = await _owner(request, user, connection)
    source = request.path_params["source"]
    columns = await _recipe_columns(request, connection, owner, source)
    order, state = request.query_params.get("order", "changed"), _state(request)
    text = reading.text_param(request, "q")
    active = _owner_query(request) | {
        "q": text,
        "state": state,
        "order": order if order != "changed" else "",
    }
    filters = ItemFilter(owner, source, text or None, STATES[state])
    found, truncated = await _page_of_items(request, connection, filters, order)
    if not columns:
        names = {name for row in found.rows for name in row["data"]}
        columns = sorted(names)[:MAX_COLUMNS]
    path = source_path(source)
    return reading.respond(
        "data/items.html",
        user,
        "items",
        source=source,
        items=found.rows,
        columns=columns,
        order=order,
        sorted_rows=MAX_EXAMINED if truncated else None,
        states=list(STATES),
        now=await heartbeats.database_now(connection),
        origins=await origins(connection, (row["run_id"] for row in found.rows), user.org_id),
        path=path,
        order_link=lambda wanted: reading.first_link(path, active | {"order": wanted}),  # pyright: ignore[reportUnknownLambdaType]
        item_path=lambda row: reading.first_link(  # pyright: ignore[reportUnknownLambdaType]
            f"/data/item/{row['id']}/{quote(source, safe='')}", _owner_query(request)
        ),
        **reading.paging(request, path, active, found),
    )


async def item(request: Request, user: SessionUser, connection: Connection) -> Response:
    """One item with all its values and their changes. Raises HTTPException 404."""
    owner = await _owner(request, user, connection)
    source, item_id = request.path_params["source"], request.path_params["item_id"]
    row = await item_listing.item(connection, owner, source, item_id)
    if row is None:
        raise HTTPException(404, "No such item.")
    changes = await history.history(
        connection, owner, row["series"] or row["key"], CHANGES, source=source
    )
    run_ids = [row["run_id"], *(change.run_id for change in changes)]
    return reading.respond(
        "data/item.html",
        user,
        "items",
        source=source,
        item=row,
        changes=changes,
        columns=await _recipe_columns(request, connection, owner, source),
        now=await heartbeats.database_now(connection),
        origins=await origins(connection, run_ids, user.org_id),
        source_link=reading.first_link(source_path(source), _owner_query(request)),
    )


def source_path(source: str) -> str:
    """The address of the items of a source."""
    return f"{PATH}/{quote(source, safe='')}"


async def _page_of_items(
    request: Request, connection: Connection, filters: ItemFilter, order: str
) -> tuple[RowPage, bool]:
    """One page of items, and whether only the last changed ones were sorted."""
    if order == "changed":
        after = reading.cursor_param(request, tuple[datetime, int])
        return await item_listing.changed(connection, filters, after, reading.PER_PAGE), False
    if order == "key":
        after = reading.cursor_param(request, tuple[str])
        return await item_listing.by_key(connection, filters, after, reading.PER_PAGE), False
    cursor = reading.cursor_param(request, tuple[int])
    offset = min(max(cursor[0], 0), MAX_OFFSET) if cursor else 0
    descending = order.startswith("-")
    column = order.removeprefix("-")
    by = ItemFilter(
        filters.org_id, filters.source, filters.text, filters.missing, column, descending
    )
    rows, more = await item_listing.by_column(connection, by, offset, reading.PER_PAGE)
    return RowPage(rows, (offset + reading.PER_PAGE,) if more else None), True


def _state(request: Request) -> str:
    state = request.query_params.get("state", "")
    return state if state in STATES else ""


async def _owner(request: Request, user: SessionUser, connection: Connection) -> UUID | None:
    """Whose items are shown. Only the operator may choose an organisation.

    Raises HTTPException 404 if there is no such organisation.
    """
    wanted = reading.text_param(request, "org")
    if user.org_id is not None or not wanted:
        return user.org_id
    found = await orgs.by_name(connection, wanted)
    if found is None:
        raise HTTPException(404, f"There is no organisation {wanted!r}.")
    return found.id


def _owner_query(request: Request) -> dict[str, str]:
    """The part of an address that says whose items it shows."""
    return {"org": reading.text_param(request, "org")}


async def _recipe_columns(
    request: Request, connection: Connection, owner: UUID | None, source: str
) -> Sequence[str]:
    """The columns of the source's recipe, in its order; empty if there is no readable recipe."""
    try:
        recipe = await _recipe(request, connection, owner, source)
    except BadRecipe:
        return ()
    if recipe is None:
        return ()
    fields = [*recipe.extract.fields, *recipe.columns]
    return list(dict.fromkeys(fields or FEED_COLUMNS))


async def _recipe(
    request: Request, connection: Connection, owner: UUID | None, source: str
) -> Recipe | None:
    if owner is None:
        config = web_context(request).config
        return (await asyncio.to_thread(recipe_dir.find_recipe, config, source)).recipe
    if not source.startswith(ORG_SOURCE_PREFIX):
        return None
    stored = await org_sources.one(connection, owner, source.removeprefix(ORG_SOURCE_PREFIX))
    return None if stored is None else await asyncio.to_thread(load, stored.recipe)
