"""Bodies of dry runs."""

from typing import Any

from app.web.api.schemas.base import RequestModel, ResponseModel
from app.web.api.schemas.sources import RecipeText


class DryRunRequest(RequestModel):
    """A recipe to fetch one page by; it need not be stored."""

    recipe: RecipeText


class DryRunRow(ResponseModel):
    """A row as it would be stored; long strings are truncated."""

    key: str
    data: dict[str, Any]


class DryRunRejection(ResponseModel):
    """A row that would be rejected, and why."""

    key: str | None
    reason: str


class DryRunField(ResponseModel):
    """A column: its type, the number of rows in which it is empty, and its first value."""

    name: str
    type: str
    empty: int
    example: Any


class DryRunFailure(ResponseModel):
    """Why the page could not be fetched or parsed."""

    kind: str
    message: str


class DryRunResult(ResponseModel):
    """The result of a dry run. Nothing is stored.

    `asked_seconds`: time to fetch the page. `read_seconds`: time to parse it.
    `found` and `refused` count rows; `rows` and `refusals` hold the first of them.
    `more`: there are further pages. `end`: what showed that this page is the last.
    """

    source: str
    partition: str
    url: str | None
    status: int | None
    bytes: int
    asked_seconds: float
    read_seconds: float
    found: int
    refused: int
    rows: list[DryRunRow]
    refusals: list[DryRunRejection]
    fields: list[DryRunField]
    more: bool
    end: str | None
    failure: DryRunFailure | None
