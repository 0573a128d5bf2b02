"""Base models and field types of the API's requests and responses."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from app.core.errors import BadSchedule
from app.orgs.collection import NAME_PATTERN as NAME_PATTERN_OF_COLLECTIONS
from app.scheduling.cron import check_zone
from app.sources.recipes.blocks import NAME_PATTERN

MAX_PAGE_ROWS = 200  # rows per page
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be printable and not blank")
    return value


def _zone(value: str) -> str:
    try:
        check_zone(value)
    except BadSchedule as error:
        raise ValueError(str(error)) from None
    return value


def digits(value: object) -> object:
    """Validate that a parameter of a query has digits only, before it is read as a number."""
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        raise ValueError("must be a whole number")
    return value


def _instant(value: object) -> object:
    if not isinstance(value, str) or value[10:11] not in ("T", "t"):
        raise ValueError("must be a timestamp with a time zone, like 2026-11-21T06:00:00Z")
    return value


def _parsed_instant(value: object) -> datetime:
    """Parse it here: the body is validated strictly, and a text is no timestamp then."""
    text = str(_instant(value)).upper()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a valid timestamp") from None


def _in_range(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError("must be between the years 1970 and 3000")
    return value


def _boolean(value: object) -> object:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def omitted() -> None:
    """Default of an omitted field that may also be null; a factory keeps it out of the schema."""


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
Note = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
SourceName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Expression = Annotated[str, Field(min_length=1, max_length=500, examples=["*/30 6-22 * * MON-FRI"])]
Zone = Annotated[
    str, Field(min_length=1, max_length=64, examples=["Europe/Berlin"]), AfterValidator(_zone)
]
CollectionName = Annotated[str, Field(pattern=NAME_PATTERN_OF_COLLECTIONS, examples=["nightly"])]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE_ROWS), BeforeValidator(digits)]
Instant = Annotated[AwareDatetime, AfterValidator(_in_range), BeforeValidator(_instant)]
BodyInstant = Annotated[AwareDatetime, AfterValidator(_in_range), BeforeValidator(_parsed_instant)]
Flag = Annotated[bool, BeforeValidator(_boolean), WithJsonSchema({"type": "boolean"})]
Cursor = Annotated[str, Field(min_length=1, max_length=300)]


class RequestModel(BaseModel):
    """Base of request models: unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResponseModel(BaseModel):
    """Base of response models, which are made from rows or from objects with such attributes."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class OptionalRequest(RequestModel):
    """Base of the models of bodies that may be omitted."""


class EmptyRequest(OptionalRequest):
    """An empty body or query."""


class PageQuery(RequestModel):
    """Pagination: how many rows, and the cursor that the previous page returned."""

    limit: Limit = 50
    cursor: Cursor | None = None


PATH_PATTERNS = {
    "name": NAME_PATTERN,
    "collection": NAME_PATTERN_OF_COLLECTIONS,
    "what": r"^(items|changes|runs)$",
    "story": r"^[0-9]{1,18}$",
    "secret": r"^[A-Za-z][A-Za-z0-9_]{0,59}$",
}  # patterns of path parameters
