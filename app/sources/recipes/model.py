"""The data model of a recipe: a source described in TOML. `load` reads and validates a text."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from app.core.enums import StoreMode
from app.sources.recipes import expressions, templates
from app.sources.recipes.auth_blocks import Auth
from app.sources.recipes.blocks import (
    NAME_PATTERN,
    Column,
    Param,
    Plain,
    RecipeBlock,
    Seconds,
    Text,
    Url,
    as_extracted,
    as_list,
    as_tables,
    as_value,
    check_headers,
)
from app.sources.recipes.enums import FieldType, Missing, RecipeKind
from app.sources.recipes.paging_blocks import OnePage, Paginate
from app.sources.recipes.schedule_block import RecipeSchedule

MAX_PARTITIONS = 1_000
MAX_PARTITION_KEY_LENGTH = 200  # characters of a partition key
FEED_COLUMNS = (
    "id",
    "url",
    "title",
    "published",
    "updated",
    "summary",
    "content",
    "author",
    "categories",
    "enclosures",
    "image",
    "comments",
    "language",
)
MAX_FIELDS = 100


class Http(RecipeBlock):
    """Request headers and robots.txt. The user agent cannot be changed."""

    headers: Annotated[dict[str, Text], AfterValidator(check_headers)] = {}
    robots: bool | None = None
    accept: Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e ]+$")] | None = None


class RecipeLimits(RecipeBlock):
    """Limits of the host: `rate` in requests per second, `burst`, and `concurrency` in flight."""

    rate: Annotated[float, Field(gt=0, le=50)] = 1
    burst: Annotated[int, Field(ge=1, le=100)] = 1
    concurrency: Annotated[int, Field(ge=1, le=16)] = 1


class Retry(RecipeBlock):
    """Retries of a request. The Retry-After header of a site is always respected.

    `attempts`: requests per page, the first included. `empty`: whether to retry an empty response.
    """

    attempts: Annotated[int, Field(ge=1, le=3)] = 3
    empty: bool = False


class RecipeRequest(RecipeBlock):
    """What is requested. `each`: one partition per member, which fills the {placeholders}.

    `read_only`: a POST that changes nothing at the site, such as a search; it may be sent again.
    """

    method: Literal["GET", "POST"] = "GET"
    params: dict[Param, Plain] = {}
    json_: Annotated[dict[str, Any] | list[Any] | None, Field(alias="json")] = None
    read_only: bool = False
    each: Annotated[
        list[dict[Column, Text]],
        BeforeValidator(as_tables, json_schema_input_type=list[str | dict[str, str]]),
        Field(max_length=MAX_PARTITIONS),
    ] = []

    @model_validator(mode="after")
    def _valid_request(self) -> Self:
        if self.json_ is not None and self.method != "POST":
            raise ValueError('json is sent only with method = "POST"')
        if self.read_only and self.method != "POST":
            raise ValueError('read_only is for method = "POST"; a GET may always be sent again')
        if any(not member or set(member) != set(self.each[0]) for member in self.each):
            raise ValueError("the members of each must all have the same names")
        keys = [tuple(member.values()) for member in self.each]
        if len(set(keys)) < len(keys):
            raise ValueError("each contains the same member twice; remove one")
        named = Counter(map(partition_key, self.each)).most_common(1)
        if named and named[0][1] > 1:
            problem = f"each has two members with the name {named[0][0][:60]!r}"
            raise ValueError(f"{problem}; only one would be read")
        return self


def partition_key(values: Mapping[str, str]) -> str:
    """Return the key of the partition of a member of `each`."""
    text = " ".join(values.values()).strip() or "-"
    key = "".join(c if c.isprintable() else "?" for c in text)
    return key if len(key) <= MAX_PARTITION_KEY_LENGTH else hashlib.sha256(key.encode()).hexdigest()


class RecipeColumn(RecipeBlock):
    """One column: the path of its value in a record, and its type."""

    path: expressions.ExpressionText
    type: FieldType = FieldType.STRING
    match: expressions.ExpressionText | None = None
    format: Annotated[str, Field(max_length=100)] | None = None
    timezone: Annotated[str, Field(max_length=60)] | None = None
    decimal: Literal[".", ","] = "."
    required: bool = False


class PageColumn(RecipeColumn):
    """A column with one value for all rows of a page.

    It is a `value` with {placeholders} of the partition, or what `path` finds in the whole page.
    """

    value: Text | None = None
    path: expressions.ExpressionText = "@"

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if (self.value is None) == (self.path == "@"):
            raise ValueError('needs exactly one of value = "{each}" and path')
        return self


class Extract(RecipeBlock):
    """Which rows a page has, and their columns.

    `container`: the element that holds the rows of an HTML page, also if there are none.
    """

    records: expressions.ExpressionText | None = None
    container: expressions.ExpressionText | None = None
    explode: expressions.ExpressionText | None = None
    fields: Annotated[
        dict[
            Column,
            Annotated[
                RecipeColumn,
                BeforeValidator(as_extracted, json_schema_input_type=str | RecipeColumn),
            ],
        ],
        Field(max_length=MAX_FIELDS),
    ] = {}


class Incremental(RecipeBlock):
    """Request only new rows. `param`, or the placeholder {since}, carries the cursor.

    The cursor is the greatest value of `field`, or without `field` the time of the last read.
    """

    param: Param | None = None
    field: Column | None = None
    format: Literal["iso", "date", "unix", "unix_ms", "plain"] = "iso"
    overlap: Seconds = timedelta(0)
    start: Annotated[str, Field(max_length=100)] | None = None


class Store(RecipeBlock):
    """How rows are stored in `items`."""

    key: Annotated[
        list[Column],
        BeforeValidator(as_list, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=10),
    ]
    mode: StoreMode = StoreMode.UPSERT
    ignore_changes: Annotated[list[Column], BeforeValidator(as_list)] = []
    missing: Missing = Missing.KEEP


class Records(RecipeBlock):
    """Expected row count: at least `min`, at most the share `drop` (0 to 1) below the baseline."""

    min: Annotated[int, Field(ge=0)] | None = None
    drop: Annotated[float, Field(gt=0, lt=1)] | None = None


class RecipeFreshness(RecipeBlock):
    """The newest value of `field` must not be older than `within`."""

    field: Column
    within: Seconds


class Expect(RecipeBlock):
    """Expectations of a run. A run that does not meet one is a partial failure with the reason."""

    records: Records = Records()
    not_null: Annotated[list[Column], BeforeValidator(as_list)] = []
    max_invalid: Annotated[float, Field(ge=0, le=1)] | None = None
    fresh: RecipeFreshness | None = None


class Recipe(RecipeBlock):
    """A source, described as data."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    kind: RecipeKind
    url: Url
    schedule: RecipeSchedule = RecipeSchedule(every="1h")
    http: Http = Http()
    auth: Auth | None = None
    limits: RecipeLimits = RecipeLimits()
    retry: Retry = Retry()
    request: RecipeRequest = RecipeRequest()
    paginate: Paginate = OnePage()
    extract: Extract = Extract()
    columns: Annotated[
        dict[
            Column,
            Annotated[
                PageColumn, BeforeValidator(as_value, json_schema_input_type=str | PageColumn)
            ],
        ],
        Field(max_length=MAX_FIELDS),
    ] = {}
    incremental: Incremental | None = None
    store: Store | None = None
    expect: Expect = Expect()

    @property
    def robots(self) -> bool:
        """Whether robots.txt is respected: `http.robots`, by default true for HTML only."""
        robots = self.http.robots
        return self.kind is RecipeKind.HTML if robots is None else robots

    @property
    def storage(self) -> Store:
        """How the rows are stored: `store`, by default keyed by `id`, which feeds have."""
        return self.store or Store(key=["id"])

    @property
    def placeholders(self) -> frozenset[str]:
        """The placeholder names that templates may use."""
        each = self.request.each
        names = frozenset(each[0]) if each else frozenset[str]()
        return names | (frozenset({"since"}) if self.incremental else frozenset[str]())

    @property
    def templates(self) -> dict[tuple[str | int, ...], str]:
        """Every template of the recipe, by its key path."""
        found: dict[tuple[str | int, ...], str] = {("url",): self.url}
        found |= {("http", "headers", name): text for name, text in self.http.headers.items()}
        found |= templates.strings_by_path(("request", "params"), self.request.params)
        return found | templates.strings_by_path(("request", "json"), self.request.json_)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, for editors."""
    schema = Recipe.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
