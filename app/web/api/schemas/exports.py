"""Parameters of exports."""

from typing import Annotated, Literal

from pydantic import Field

from app.web.api.schemas.base import Instant, RequestModel


class ExportQuery(RequestModel):
    """The format and the time range of an export: items by their last change, runs by creation.

    `after`: the `cursor` of the last row of an export that broke off.
    """

    format: Literal["csv", "jsonl", "parquet"] = "csv"
    since: Instant | None = None
    until: Instant | None = None
    after: Annotated[str, Field(min_length=1, max_length=200)] | None = None
