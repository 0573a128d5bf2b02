"""Bodies and filters of items."""

from typing import Any

from pydantic import AwareDatetime

from app.web.api.schemas.base import Flag, Instant, PageQuery, ResponseModel, SourceName


class ItemsQuery(PageQuery):
    """Filters and pagination of items. `missing`: absent from the last complete listing, or not."""

    source: SourceName | None = None
    changed_since: Instant | None = None
    missing: Flag | None = None


class ItemBody(ResponseModel):
    """One collected item, as last seen."""

    source: str
    key: str
    data: dict[str, Any]
    first_seen: AwareDatetime
    last_seen: AwareDatetime
    changed_at: AwareDatetime
    missing_since: AwareDatetime | None


class Items(ResponseModel):
    """A page of items, most recently changed first."""

    items: list[ItemBody]
    next_cursor: str | None
