"""What a recipe may say: a source as a page of TOML. This is its shape; `load` judges a text."""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from app.errors import BadSchedule
from app.recipes import expressions, templates
from app.recipes.spans import span
from app.recipes.words import FieldType, Kind, Missing
from app.scheduling.schedule import Schedule as When
from app.words import StoreMode

NAME = r"^[a-z][a-z0-9_-]{0,59}$"
COLUMN = r"^[a-z][a-z0-9_]{0,59}$"
MOST_PARTS = 1_000
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
MOST_PAGES = 1_000
MOST_FIELDS = 100
SOONEST = timedelta(minutes=1)
# Who we are, and where a request ends: a site behind a proxy could be told two requests for one.
OURS = frozenset(
    {"user-agent", "host", "content-length", "accept-encoding", "connection"}
    | {"transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive", "proxy-connection"}
)
SECRET = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


class Block(BaseModel):
    """A table of a recipe. Unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _header_names(headers: dict[str, str]) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    for name, value in lower.items():
        if name in OURS:
            raise ValueError(f"{name} is ours to say; leave it out")
        if name in SECRET:
            raise ValueError(f"{name} carries a secret; use the block [auth] instead")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{name[:40]!r} is no header's name; use letters and hyphens")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} is not printable ASCII; encode it")
    return lower


def _key_name(name: str) -> str:
    if name.lower() in OURS:
        raise ValueError(f"{name.lower()} is ours to say; name the header that the site asks for")
    return name


def _each(value: object) -> object:
    if isinstance(value, list):
        return [{"each": one} if isinstance(one, str) else one for one in value]  # pyright: ignore[reportUnknownVariableType] - pydantic looks at them next
    return value


def _spelled_out(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _address(value: str) -> str:
    start, _, rest = value.partition("://")
    if start not in ("http", "https"):
        raise ValueError("is no address; it must begin with https:// or http://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    if "{" in host:
        raise ValueError("names its host by a {placeholder}; write the host out")
    if "@" in host:
        raise ValueError("names a user; use the block [auth] instead")
    if not host or any(c.isspace() or not c.isprintable() for c in value):
        raise ValueError("is no address; write a host, and no spaces")
    return value


def _reference(value: str) -> str:
    kind, colon, name = value.partition(":")
    plain = name.replace("_", "").isalnum() and name.isascii() and not name[:1].isdigit()
    if kind not in ("env", "secret") or not colon or not plain:
        raise ValueError(
            "must not stand here itself; write env:NAME (the operator's) or secret:NAME (your own)"
        )
    return value


Url = Annotated[str, Field(max_length=4_000), AfterValidator(_address)]
Reference = Annotated[
    str,
    Field(max_length=100, json_schema_extra={"pattern": "^(env|secret):"}),
    AfterValidator(_reference),
]
Seconds = Annotated[
    timedelta, BeforeValidator(span, json_schema_input_type=str), Field(ge=timedelta(0))
]
Text = Annotated[str, Field(max_length=2_000)]
Plain = Text | int | float | bool
Column = Annotated[str, Field(pattern=COLUMN)]
Param = Annotated[str, Field(min_length=1, max_length=200)]


class Schedule(Block):
    """When it is due: `every`, or `cron` in a `timezone`."""

    every: Annotated[str, Field(max_length=20)] | None = None
    cron: Annotated[str, Field(max_length=200)] | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.every is None) == (self.cron is None):
            raise ValueError('says when either by every = "15m" or by cron = "0 6 * * *"')
        if self.every is not None and self.every != "auto" and span(self.every) < SOONEST:
            raise ValueError("every must be one minute or more")
        try:
            self.when()
        except BadSchedule as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def auto(self) -> bool:
        """Whether a feed's own pace decides."""
        return self.every == "auto"

    def when(self, soonest: timedelta = timedelta(minutes=5)) -> When:
        """The schedule; of `auto` the shortest it may come to. Raises BadSchedule."""
        if self.cron is not None:
            return When.cron(self.cron, self.timezone)
        step = soonest if self.every is None or self.auto else span(self.every)
        return When.every(step.total_seconds())


class Http(Block):
    """How it asks. The user agent is ours."""

    headers: Annotated[dict[str, Text], AfterValidator(_header_names)] = {}
    robots: bool | None = None
    accept: Annotated[str, Field(max_length=200, pattern=r"^[\x21-\x7e ]+$")] | None = None


class Bearer(Block):
    """`Authorization: Bearer …`."""

    type: Literal["bearer"]
    token: Reference


class HeaderKey(Block):
    """A header of a name the site has chosen."""

    type: Literal["header"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,60}$"), AfterValidator(_key_name)]
    value: Reference


class QueryKey(Block):
    """A parameter of the address. It is shown nowhere."""

    type: Literal["query"]
    name: Param
    value: Reference


class Basic(Block):
    """A name and a password."""

    type: Literal["basic"]
    username: Text
    password: Reference


class OAuth2(Block):
    """OAuth2 client credentials (RFC 6749 4.4)."""

    type: Literal["oauth2"]
    token_url: Url
    client_id: Text
    client_secret: Reference
    scope: Text = ""


Auth = Annotated[Bearer | HeaderKey | QueryKey | Basic | OAuth2, Field(discriminator="type")]


class Limits(Block):
    """How hard the host may be asked: `rate` a second, `burst` at once, `concurrency` under way."""

    rate: Annotated[float, Field(gt=0, le=50)] = 1
    burst: Annotated[int, Field(ge=1, le=100)] = 1
    concurrency: Annotated[int, Field(ge=1, le=16)] = 1


class Retry(Block):
    """When to ask again. What a site says itself (Retry-After) is always heeded."""

    attempts: Annotated[int, Field(ge=1, le=3)] = 3
    empty: bool = False


class Request(Block):
    """What is asked. `each`: one partition for each member, whose names fill the {placeholders}."""

    method: Literal["GET", "POST"] = "GET"
    params: dict[Param, Plain] = {}
    json_: Annotated[dict[str, Any] | list[Any] | None, Field(alias="json")] = None
    each: Annotated[
        list[dict[Column, Text]],
        BeforeValidator(_each, json_schema_input_type=list[str | dict[str, str]]),
        Field(max_length=MOST_PARTS),
    ] = []

    @model_validator(mode="after")
    def _posted(self) -> Self:
        if self.json_ is not None and self.method != "POST":
            raise ValueError('json is sent only with method = "POST"')
        if any(set(one) != set(self.each[0]) or not one for one in self.each):
            raise ValueError("the members of each must all have the same names")
        keys = [tuple(one.values()) for one in self.each]
        if len(set(keys)) < len(keys):
            raise ValueError("each names the same member twice; take one out")
        return self


class _Paged(Block):
    max_pages: Annotated[int, Field(ge=1, le=MOST_PAGES)]
    enough: bool = False
    total: expressions.Text | None = None


class OnePage(Block):
    """One page is all there is."""

    type: Literal["none"] = "none"
    total: expressions.Text | None = None
    enough: bool = False

    @property
    def max_pages(self) -> int:
        """One."""
        return 1


class ByPage(_Paged):
    """`param` counts pages from `start`, until one has no rows, or fewer than `size`."""

    type: Literal["page"]
    param: Param = "page"
    start: Annotated[int, Field(ge=0, le=1)] = 1
    size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size_param: Param | None = None


class ByOffset(_Paged):
    """`param` counts rows, `size` at a time, until a page has no rows, or fewer."""

    type: Literal["offset"]
    param: Param = "offset"
    size: Annotated[int, Field(ge=1, le=100_000)]
    size_param: Param | None = "limit"


class ByCursor(_Paged):
    """`param` is what `path` found on the page before, until it finds nothing."""

    type: Literal["cursor"]
    param: Param = "cursor"
    path: expressions.Text
    size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    size_param: Param | None = None


class ByNext(_Paged):
    """`path` finds the address of the page that follows, until it finds nothing."""

    type: Literal["next"]
    path: expressions.Text


class ByLink(_Paged):
    """The header `Link: <…>; rel="next"` says what follows (RFC 8288)."""

    type: Literal["link_header"]


Paginate = Annotated[
    OnePage | ByPage | ByOffset | ByCursor | ByNext | ByLink, Field(discriminator="type")
]


class Extracted(Block):
    """One column: where its value stands in a record, and what it is."""

    path: expressions.Text
    type: FieldType = FieldType.STRING
    match: expressions.Text | None = None
    format: Annotated[str, Field(max_length=100)] | None = None
    timezone: Annotated[str, Field(max_length=60)] | None = None
    decimal: Literal[".", ","] = "."
    required: bool = False


class Extract(Block):
    """What the rows are and what each of them has."""

    records: expressions.Text | None = None
    explode: expressions.Text | None = None
    fields: Annotated[
        dict[
            Column,
            Annotated[
                Extracted, BeforeValidator(_spelled_out, json_schema_input_type=str | Extracted)
            ],
        ],
        Field(max_length=MOST_FIELDS),
    ] = {}


class Incremental(Block):
    """Ask only for what is new. `param` (or the placeholder {since}) carries up to where was read.

    With `field` that is the greatest value it had; without, the instant at which was read last.
    """

    param: Param | None = None
    field: Column | None = None
    format: Literal["iso", "date", "unix", "unix_ms", "plain"] = "iso"
    overlap: Seconds = timedelta(0)
    start: Annotated[str, Field(max_length=100)] | None = None


class Store(Block):
    """How rows are kept in `items`."""

    key: Annotated[
        list[Column],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        Field(min_length=1, max_length=10),
    ]
    mode: StoreMode = StoreMode.UPSERT
    ignore_changes: Annotated[list[Column], BeforeValidator(_listed)] = []
    missing: Missing = Missing.KEEP


class Records(Block):
    """How many rows a run must have: `min`, and how far they may `drop` (0.5 is by half)."""

    min: Annotated[int, Field(ge=0)] | None = None
    drop: Annotated[float, Field(gt=0, lt=1)] | None = None


class Fresh(Block):
    """The newest value of `field` must not be older than `within`."""

    field: Column
    within: Seconds


class Expect(Block):
    """What a run must have found, or it is a partial failure that says why."""

    records: Records = Records()
    not_null: Annotated[list[Column], BeforeValidator(_listed)] = []
    max_invalid: Annotated[float, Field(ge=0, le=1)] | None = None
    fresh: Fresh | None = None


class Recipe(Block):
    """A source."""

    name: Annotated[str, Field(pattern=NAME)]
    kind: Kind
    url: Url
    schedule: Schedule = Schedule(every="1h")
    http: Http = Http()
    auth: Auth | None = None
    limits: Limits = Limits()
    retry: Retry = Retry()
    request: Request = Request()
    paginate: Paginate = OnePage()
    extract: Extract = Extract()
    incremental: Incremental | None = None
    store: Store | None = None
    expect: Expect = Expect()

    @property
    def robots(self) -> bool:
        """Whether robots.txt is asked first: for pages made for people, if nothing else is said."""
        asked = self.http.robots
        return self.kind is Kind.HTML if asked is None else asked

    @property
    def kept(self) -> Store:
        """How its rows are kept; a feed's by their id, if it does not say."""
        return self.store or Store(key=["id"])

    @property
    def placeholders(self) -> frozenset[str]:
        """The names that may stand in braces."""
        each = self.request.each
        names = frozenset(each[0]) if each else frozenset[str]()
        return names | (frozenset({"since"}) if self.incremental else frozenset[str]())

    @property
    def templates(self) -> dict[tuple[str | int, ...], str]:
        """Every text in which {placeholders} are filled, by where it stands."""
        told: dict[tuple[str | int, ...], str] = {("url",): self.url}
        told |= {("http", "headers", name): text for name, text in self.http.headers.items()}
        told |= templates.texts(("request", "params"), self.request.params)
        return told | templates.texts(("request", "json"), self.request.json_)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors."""
    schema = Recipe.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
