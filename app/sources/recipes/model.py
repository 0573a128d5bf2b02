"""The data model of a recipe: a source described in TOML. `load` reads and validates a text."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from app.core.enums import Coalesce, Overlap, StoreMode
from app.core.errors import BadSchedule
from app.scheduling.calendars import EMPTY_CALENDAR
from app.scheduling.choices import PolicyChoices
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule as When
from app.sources.recipes import expressions, templates
from app.sources.recipes.durations import parse_duration
from app.sources.recipes.enums import FieldType, Missing, RecipeKind

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,59}$"
COLUMN_PATTERN = r"^[a-z][a-z0-9_]{0,59}$"
MAX_PARTITIONS = 1_000
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
MAX_PAGES = 1_000
NO_CONTENT = 204
# What a site answers to a client that it refuses or slows down: never the end of a listing.
NO_END_STATUS = frozenset({401, 403, 407, 408, 425, 429})
MAX_FIELDS = 100
MIN_INTERVAL = timedelta(minutes=1)
# Headers that identify the client or frame the request. A recipe that set the framing headers could
# smuggle a second request past a proxy.
RESERVED_HEADERS = frozenset(
    {"user-agent", "host", "content-length", "accept-encoding", "connection"}
    | {"transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive", "proxy-connection"}
)
SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"}
)


class RecipeBlock(BaseModel):
    """A table of a recipe. Unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    for name, value in lower.items():
        if name in RESERVED_HEADERS:
            raise ValueError(f"{name} is set by Rollcall; remove it")
        if name in SECRET_HEADERS:
            raise ValueError(f"{name} carries a secret; use the block [auth] instead")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{name[:40]!r} is not a header name; use letters and hyphens")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} is not printable ASCII; encode it")
    return lower


def _check_key_name(name: str) -> str:
    if name.lower() in RESERVED_HEADERS:
        raise ValueError(
            f"{name.lower()} is set by Rollcall; name the header that the site requires"
        )
    return name


def _as_tables(value: object) -> object:
    if isinstance(value, list):
        return [{"each": member} if isinstance(member, str) else member for member in value]  # pyright: ignore[reportUnknownVariableType] - pydantic validates next
    return value


def _as_extracted(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _as_value(value: object) -> object:
    return {"value": value} if isinstance(value, str) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_url(value: str) -> str:
    start, _, rest = value.partition("://")
    if start not in ("http", "https"):
        raise ValueError("is not a URL; it must begin with https:// or http://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    if "{" in host:
        raise ValueError("has a {placeholder} in its host; write the host out")
    if "@" in host:
        raise ValueError("contains a user name; use the block [auth] instead")
    if not host or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError("is not a URL; write a host, and no spaces")
    return value


def _check_reference(value: str) -> str:
    scheme, colon, name = value.partition(":")
    plain = name.replace("_", "").isalnum() and name.isascii() and not name[:1].isdigit()
    if scheme not in ("env", "secret") or not colon or not plain:
        raise ValueError(
            "must not contain the secret itself; write env:NAME (the operator's)"
            " or secret:NAME (your own)"
        )
    return value


Url = Annotated[str, Field(max_length=4_000), AfterValidator(_check_url)]
Reference = Annotated[
    str,
    Field(max_length=100, json_schema_extra={"pattern": "^(env|secret):"}),
    AfterValidator(_check_reference),
]
Seconds = Annotated[
    timedelta, BeforeValidator(parse_duration, json_schema_input_type=str), Field(ge=timedelta(0))
]
Text = Annotated[str, Field(max_length=2_000)]
Plain = Text | int | float | bool
Column = Annotated[str, Field(pattern=COLUMN_PATTERN)]
Param = Annotated[str, Field(min_length=1, max_length=200)]


def _iso_text(value: object) -> object:
    """Return a date or timestamp of TOML as text."""
    return value.isoformat() if isinstance(value, date) else value


Moment = Annotated[
    str,
    Field(max_length=100),
    BeforeValidator(_iso_text, json_schema_input_type=str),
]


class RecipeSchedule(RecipeBlock):
    """When a source runs: `every`, or `cron` in a `timezone`; and its policies."""

    every: Annotated[str, Field(max_length=20)] | None = None
    cron: Annotated[str, Field(max_length=200)] | None = None
    timezone: str = "UTC"
    overlap: Overlap | None = None
    coalesce: Coalesce | None = None
    catch_up: Annotated[int, Field(ge=1, le=1000)] | None = None
    misfire_grace: Seconds | None = None
    jitter: Seconds | None = None
    timeout: Seconds | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    exclude: Annotated[tuple[Moment, ...], Field(max_length=500)] = ()
    start: Moment | None = None
    end: Moment | None = None

    @model_validator(mode="after")
    def _valid_schedule(self) -> Self:
        if (self.every is None) == (self.cron is None):
            raise ValueError('needs exactly one of every = "15m" and cron = "0 6 * * *"')
        if (
            self.every is not None
            and self.every != "auto"
            and parse_duration(self.every) < MIN_INTERVAL
        ):
            raise ValueError("every must be at least one minute")
        try:
            self.to_policies(Policies(), lambda _: EMPTY_CALENDAR)
        except BadSchedule as error:
            raise ValueError(str(error)) from None
        return self

    def to_policies(self, defaults: Policies, read: Callable[[str], str]) -> Policies:
        """Return the defaults with the chosen policies. Raises BadSchedule.

        `read`: returns the text of a calendar file.
        """
        choices = PolicyChoices(
            overlap=self.overlap,
            coalesce=self.coalesce,
            catch_up=self.catch_up,
            misfire_grace=self.misfire_grace,
            jitter=self.jitter,
            timeout=None if self.timeout is None else self.timeout.total_seconds(),
            max_attempts=self.max_attempts,
            exclude=self.exclude,
            start=self.start,
            end=self.end,
        )
        return choices.apply(defaults, self.to_schedule(), self.timezone, read)

    @property
    def auto(self) -> bool:
        """Whether the interval follows the feed's own publishing rate."""
        return self.every == "auto"

    def to_schedule(self, shortest: timedelta = timedelta(minutes=5)) -> When:
        """Return the schedule; for `auto` one with the interval `shortest`. Raises BadSchedule."""
        if self.cron is not None:
            return When.cron(self.cron, self.timezone)
        step = shortest if self.every is None or self.auto else parse_duration(self.every)
        return When.every(step.total_seconds())


class Http(RecipeBlock):
    """Request headers and robots.txt. The user agent cannot be changed."""

    headers: Annotated[dict[str, Text], AfterValidator(_check_headers)] = {}
    robots: bool | None = None
    accept: Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e ]+$")] | None = None


class Bearer(RecipeBlock):
    """`Authorization: Bearer …`."""

    type: Literal["bearer"]
    token: Reference


class RecipeHeaderKey(RecipeBlock):
    """An API key in a header."""

    type: Literal["header"]
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,60}$"), AfterValidator(_check_key_name)
    ]
    value: Reference


class RecipeQueryKey(RecipeBlock):
    """An API key in a query parameter. The value is redacted everywhere."""

    type: Literal["query"]
    name: Param
    value: Reference


class Basic(RecipeBlock):
    """HTTP basic authentication."""

    type: Literal["basic"]
    username: Text
    password: Reference


class OAuth2(RecipeBlock):
    """OAuth2 client credentials (RFC 6749 4.4)."""

    type: Literal["oauth2"]
    token_url: Url
    client_id: Text
    client_secret: Reference
    scope: Text = ""


Auth = Annotated[
    Bearer | RecipeHeaderKey | RecipeQueryKey | Basic | OAuth2, Field(discriminator="type")
]


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
        BeforeValidator(_as_tables, json_schema_input_type=list[str | dict[str, str]]),
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
        return self


def _check_end_status(status: int) -> int:
    is_client_error = 400 <= status < 500 and status not in NO_END_STATUS  # noqa: PLR2004 - 4xx
    if status != NO_CONTENT and not is_client_error:
        raise ValueError(f"cannot be {status}; write 204, 400, 404, 410, 416 or 422")
    return status


class _Ends(RecipeBlock):
    """How the end of a listing is recognised, besides what the type of pagination says."""

    total: expressions.ExpressionText | None = None
    has_more: expressions.ExpressionText | None = None
    end_when: expressions.ExpressionText | None = None
    end_status: Annotated[
        list[Annotated[int, AfterValidator(_check_end_status)]], Field(max_length=10)
    ] = []


class _Paged(_Ends):
    max_pages: Annotated[int, Field(ge=1, le=MAX_PAGES)]
    enough: bool = False
    stable: bool = False


class OnePage(_Ends):
    """No pagination: the source has one page."""

    type: Literal["none"] = "none"
    enough: bool = False
    stable: bool = False

    @property
    def max_pages(self) -> int:
        """Always 1."""
        return 1


class ByPage(_Paged):
    """`param` is the page number, from `start` until the list of a page is empty."""

    type: Literal["page"]
    param: Param = "page"
    start: Annotated[int, Field(ge=0, le=1)] = 1
    size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size_param: Param | None = None
    short_page_ends: bool = False

    @model_validator(mode="after")
    def _has_size(self) -> Self:
        if self.short_page_ends and self.size is None:
            raise ValueError("short_page_ends needs size; write the number of rows of a full page")
        return self


class ByOffset(_Paged):
    """`param` is the number of rows received so far, until the list of a page is empty."""

    type: Literal["offset"]
    param: Param = "offset"
    size: Annotated[int, Field(ge=1, le=100_000)]
    size_param: Param | None = "limit"
    short_page_ends: bool = False


class ByCursor(_Paged):
    """`param` is the cursor that `path` found in the previous page, until it finds none."""

    type: Literal["cursor"]
    param: Param = "cursor"
    path: expressions.ExpressionText
    size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size_param: Param | None = None


class ByNext(_Paged):
    """`path` finds the URL of the next page, until it finds none."""

    type: Literal["next"]
    path: expressions.ExpressionText


class ByLink(_Paged):
    """The header `Link: <…>; rel="next"` names the next page (RFC 8288)."""

    type: Literal["link_header"]


Paginate = Annotated[
    OnePage | ByPage | ByOffset | ByCursor | ByNext | ByLink, Field(discriminator="type")
]


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
                BeforeValidator(_as_extracted, json_schema_input_type=str | RecipeColumn),
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
        BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=10),
    ]
    mode: StoreMode = StoreMode.UPSERT
    ignore_changes: Annotated[list[Column], BeforeValidator(_as_list)] = []
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
    not_null: Annotated[list[Column], BeforeValidator(_as_list)] = []
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
                PageColumn, BeforeValidator(_as_value, json_schema_input_type=str | PageColumn)
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
