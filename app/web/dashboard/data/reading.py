"""What all data pages share: a transaction of the user's, paging, and query parameters."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.store.bounded import RowPage
from app.store.db import INVALID_VALUES, UNAVAILABLE, Connection
from app.store.tenancy import transaction
from app.web.context import web_context
from app.web.dashboard import views
from app.web.dashboard.page_filters import EPOCH, MAX_YEAR
from app.web.dashboard.session_auth import PageView, SessionUser

PER_PAGE = 50
MAX_TEXT = 200  # characters of a search
SECTION = "data"

DataView = Callable[[Request, SessionUser, Connection], Awaitable[Response]]


def data_page(view: DataView) -> PageView:
    """A page that reads in one transaction, in which an organisation's user sees its rows only.

    It raises HTTPException 400 for a parameter that Postgres cannot hold.
    """

    async def read(request: Request, user: SessionUser) -> Response:
        try:
            async with transaction(web_context(request).pool, user.org_id) as connection:
                return await view(request, user, connection)
        except UNAVAILABLE:
            return views.postgres_unavailable(user)
        except INVALID_VALUES:  # such as a NUL in a text, or a number that no column can hold
            raise HTTPException(400, "The address contains an invalid value.") from None

    return read


def respond(name: str, user: SessionUser, tab: str, **values: Any) -> Response:
    """The page of that template, as an HTML response. `tab`: which kind of data it shows."""
    return views.respond(name, user, SECTION, tab=tab, **values)


def text_param(request: Request, name: str) -> str:
    """A query parameter as text of one line; empty if it is not given. Raises HTTPException 400."""
    value = request.query_params.get(name, "").strip()
    if len(value) > MAX_TEXT:
        raise HTTPException(400, f"The parameter {name} is too long.")
    return value


def day_param(request: Request, name: str) -> datetime | None:
    """A query parameter as the first instant of a day in UTC. Raises HTTPException 400."""
    value = text_param(request, name)
    if not value:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise HTTPException(400, f"The parameter {name} is not a day such as 2026-09-05.") from None
    if not EPOCH.year <= day.year < MAX_YEAR:
        raise HTTPException(400, f"The parameter {name} is out of range.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def cursor_param(request: Request, kind: Any) -> Any:
    """The place after which a page starts, of the type `kind`; None for the first page.

    Raises HTTPException 400.
    """
    value = request.query_params.get("after")
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, ValueError):
        raise HTTPException(400, "Invalid page cursor.") from None


def next_link(
    path: str, active: Mapping[str, str], after: tuple[Any, ...] | None, fragment: str = ""
) -> str:
    """The address of the page after `after`, with the filters that are active; empty if None."""
    if after is None:
        return ""
    cursor = msgspec.json.encode(after).decode()
    return f"{path}?{urlencode({**_given(active), 'after': cursor})}{fragment}"


def first_link(path: str, active: Mapping[str, str], fragment: str = "") -> str:
    """The address of the first page with the filters that are active."""
    query = urlencode(_given(active))
    return f"{path}?{query}{fragment}" if query else f"{path}{fragment}"


def paging(
    request: Request, path: str, active: Mapping[str, str], found: RowPage
) -> dict[str, Any]:
    """What a list's template needs of its filters and pages."""
    return {
        "filters": active,
        "older": next_link(path, active, found.after),
        "first_page": first_link(path, active) if "after" in request.query_params else "",
        "examined": found.examined,
    }


def _given(active: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in active.items() if value}
