"""Bodies and filters of the change feed and of an item's history."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field

from app.core.enums import ChangeKind
from app.web.api.schemas.base import (
    Limit,
    PageQuery,
    RequestModel,
    ResponseModel,
    SourceName,
    digits,
)

Place = Annotated[str, Field(pattern=r"^\d{1,19}(\.\d{1,19})?$", examples=["0"])]
WaitSeconds = Annotated[int, Field(ge=0, le=30), BeforeValidator(digits)]


class ChangeStreamQuery(RequestModel):
    """Where in the feed to begin, and which kind of changes to get. `after`: 0 is the beginning."""

    after: Place = "0"
    kind: ChangeKind | None = None


class ChangesQuery(ChangeStreamQuery):
    """A page of the feed. `wait`: seconds to wait if there is no change yet, at most 30."""

    limit: Limit = 50
    wait: WaitSeconds = 0


class ChangeBody(ResponseModel):
    """One change of an item, of the status of a run, or of a collection's health.

    `id`: its place in the feed, and the same whenever it is sent. `fields`: only what moved; a side
    that is missing in `from` and `to` was or is not there. Null for a new or missing item.
    """

    id: str
    at: AwareDatetime
    kind: ChangeKind
    source: str | None
    key: str | None
    run_id: UUID | None
    fields: dict[str, dict[str, Any]] | None


class ChangeFeed(ResponseModel):
    """Changes, oldest first. `next`: the `after` of the next request, also without any change."""

    changes: list[ChangeBody]
    next: str


class HistoryQuery(PageQuery):
    """Pagination of an item's history. `source`: if several sources have this key."""

    source: SourceName | None = None


class History(ResponseModel):
    """What changed in an item, newest first."""

    changes: list[ChangeBody]
    next_cursor: str | None
