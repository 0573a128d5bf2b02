"""Pydantic models of the API's requests and responses, and of its OpenAPI schemas."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
)

from app.core.enums import (
    ChangeKind,
    Coalesce,
    DeliveryState,
    Overlap,
    RunStatus,
    Scope,
    TickOutcome,
    TickReason,
    Trigger,
)
from app.core.errors import BadSchedule
from app.orgs.collection import NAME_PATTERN as NAME_PATTERN_OF_COLLECTIONS
from app.scheduling.cron import check_zone
from app.sources.recipes.load import MAX_RECIPE_LENGTH
from app.sources.recipes.model import NAME_PATTERN

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


def _digits(value: object) -> object:
    if not isinstance(value, str) or not value.isascii() or not value.isdigit():
        raise ValueError("must be a whole number")
    return value


def _instant(value: object) -> object:
    if not isinstance(value, str) or value[10:11] not in ("T", "t"):
        raise ValueError("must be a timestamp with a time zone, like 2026-11-21T06:00:00Z")
    return value


def _in_range(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError("must be between the years 1970 and 3000")
    return value


def _boolean(value: object) -> object:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _omitted() -> None:
    """Default of an omitted field that may also be null; a factory keeps it out of the schema."""


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
Note = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
SourceName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Expression = Annotated[str, Field(min_length=1, max_length=500, examples=["*/30 6-22 * * MON-FRI"])]
Zone = Annotated[
    str,
    Field(min_length=1, max_length=64, examples=["Europe/Berlin"]),
    AfterValidator(_zone),
]
CollectionName = Annotated[str, Field(pattern=NAME_PATTERN_OF_COLLECTIONS, examples=["nightly"])]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE_ROWS), BeforeValidator(_digits)]
Instant = Annotated[AwareDatetime, AfterValidator(_in_range), BeforeValidator(_instant)]
Flag = Annotated[bool, BeforeValidator(_boolean), WithJsonSchema({"type": "boolean"})]
Cursor = Annotated[str, Field(min_length=1, max_length=300)]


class RequestModel(BaseModel):
    """Base of request models: unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResponseModel(BaseModel):
    """Base of response models."""

    model_config = ConfigDict(frozen=True)


class EmptyRequest(RequestModel):
    """An empty body or query."""


# The schedule


PolicySeconds = Annotated[float, Field(ge=0, le=604_800)]
ExcludeRule = Annotated[str, Field(min_length=1, max_length=100)]


class ScheduleBody(ResponseModel):
    """The organisation's schedule, or the defaults if it has none. A null policy is the default."""

    id: int | None
    preset_id: UUID | None
    preset_name: str | None
    cron_expression: str
    timezone: str
    enabled: bool
    notify: bool
    overlap: Overlap | None
    coalesce: Coalesce | None
    catch_up: int | None
    misfire_grace_seconds: float | None
    jitter_seconds: float | None
    timeout_seconds: float | None
    max_attempts: int | None
    exclude: list[str] | None
    start: str | None
    end: str | None
    last_run_at: AwareDatetime | None
    last_status: RunStatus | None
    next_run_at: AwareDatetime | None


class ScheduleChange(RequestModel):
    """Fields to change; omitted fields are kept. A null `preset_id` selects no preset.

    A policy that is null gets its default again. `exclude`: dates, ranges, weekdays and hours.
    """

    preset_id: UUID | None = Field(default_factory=_omitted)
    cron_expression: Expression = Field(default_factory=str)
    timezone: Zone = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool)
    notify: bool = Field(default_factory=bool)
    overlap: Overlap | None = Field(default_factory=_omitted)
    coalesce: Coalesce | None = Field(default_factory=_omitted)
    catch_up: Annotated[int, Field(ge=1, le=1000)] | None = Field(default_factory=_omitted)
    misfire_grace_seconds: PolicySeconds | None = Field(default_factory=_omitted)
    jitter_seconds: PolicySeconds | None = Field(default_factory=_omitted)
    timeout_seconds: PolicySeconds | None = Field(default_factory=_omitted)
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = Field(default_factory=_omitted)
    exclude: Annotated[list[ExcludeRule], Field(max_length=200)] | None = Field(
        default_factory=_omitted
    )
    start: ExcludeRule | None = Field(default_factory=_omitted)
    end: ExcludeRule | None = Field(default_factory=_omitted)


class CollectionBody(ResponseModel):
    """A collection of the organisation: its name and its schedule."""

    name: str
    schedule: ScheduleBody


class Collections(ResponseModel):
    """The organisation's collections, the default one first."""

    collections: list[CollectionBody]


class PauseRequest(RequestModel):
    """Why the schedule is paused."""

    note: Note


class ResumeRequest(RequestModel):
    """Why the schedule is resumed; optional."""

    note: Note | None = None


class PauseBody(ResponseModel):
    """Whether the schedule is paused, since when, by whom and why."""

    paused: bool
    paused_at: AwareDatetime | None
    paused_by: str | None
    note: str | None


class PreviewQuery(RequestModel):
    """The cron expression and time zone to preview."""

    cron: Expression
    timezone: Zone = "UTC"


class TickPreview(ResponseModel):
    """One tick. `moved`: a clock change skips the time that the expression names; see `note`."""

    utc: AwareDatetime
    local: AwareDatetime
    moved: bool
    note: str | None


class SchedulePreview(ResponseModel):
    """A cron expression in plain words, and its next ticks, at most ten."""

    cron_expression: str
    timezone: str
    words: str
    instants: list[TickPreview]


# Pages


class PageQuery(RequestModel):
    """Pagination: how many rows, and the cursor that the previous page returned."""

    limit: Limit = 50
    cursor: Cursor | None = None


class EditBody(ResponseModel):
    """One edit of the schedule: who, when, and the settings before and after."""

    id: int
    at: AwareDatetime
    by: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Edits(ResponseModel):
    """A page of edits, newest first."""

    edits: list[EditBody]
    next_cursor: str | None


class RunsQuery(PageQuery):
    """Filters and pagination of runs."""

    status: RunStatus | None = None
    since: Instant | None = None
    collection: CollectionName | None = None


class RunBody(ResponseModel):
    """One run. `scheduled_for` is null if it was requested by hand.

    `not_before`: it does not start earlier; `deferred_until`: the same, if a site asked for it.
    """

    id: UUID
    collection: str
    trigger: Trigger
    scheduled_for: AwareDatetime | None
    status: RunStatus
    queued_at: AwareDatetime
    not_before: AwareDatetime | None
    deferred_until: AwareDatetime | None
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    duration_seconds: float | None
    error_type: str | None
    error_message: str | None
    stats: dict[str, Any]


class Runs(ResponseModel):
    """A page of runs, newest first."""

    runs: list[RunBody]
    next_cursor: str | None


class TicksQuery(PageQuery):
    """Filters and pagination of ticks."""

    outcome: TickOutcome | None = None
    reason: TickReason | None = None
    since: Instant | None = None
    until: Instant | None = None


class TickBody(ResponseModel):
    """One tick, or `count` consecutive ones from `scheduled_for` to `until` that did not run.

    `run_id` is null if it did not run.
    """

    scheduled_for: AwareDatetime
    until: AwareDatetime
    count: int
    outcome: TickOutcome
    reason: TickReason | None
    run_id: UUID | None
    decided_at: AwareDatetime


class Ticks(ResponseModel):
    """A page of ticks, newest first."""

    ticks: list[TickBody]
    next_cursor: str | None


class RunSource(ResponseModel):
    """The result of one source of a run."""

    source: str
    status: RunStatus
    pages: int
    records: int
    inserted: int
    changed: int
    unchanged: int
    rejected: int
    requests: int
    retries: int
    bytes: int
    throttled_ms: int
    duration_seconds: float
    error_kind: str | None
    error_message: str | None


class RunWithSources(RunBody):
    """One run, with the result of each source."""

    requested_by: str | None
    attempt: int
    sources: list[RunSource]


class QueuedRunBody(ResponseModel):
    """A run that was just queued."""

    run_id: UUID
    status: Literal["queued"] = "queued"
    queued_at: AwareDatetime


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


# Changes

Place = Annotated[
    str,
    Field(pattern=r"^\d{1,19}(\.\d{1,19})?$", examples=["0"]),
]
WaitSeconds = Annotated[int, Field(ge=0, le=30), BeforeValidator(_digits)]


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


# Usage


class LimitUsageBody(ResponseModel):
    """A limit and how much of it is used; null for a limit of one run, preset or attempt."""

    name: str
    limit: float
    used: float | None


class MonthUsage(ResponseModel):
    """What the runs of a month (UTC) took, as far as they are still kept. `items`: written."""

    month: str
    runs: int
    pages: int
    bytes: int
    items: int


class UsageBody(ResponseModel):
    """The organisation's limits with their use, and its last months, newest first."""

    limits: list[LimitUsageBody]
    months: list[MonthUsage]


# Exports


class ExportQuery(RequestModel):
    """The format and the time range of an export: items by their last change, runs by creation.

    `after`: the `cursor` of the last row of an export that broke off.
    """

    format: Literal["csv", "jsonl", "parquet"] = "csv"
    since: Instant | None = None
    until: Instant | None = None
    after: Annotated[str, Field(min_length=1, max_length=200)] | None = None


# The operator's


OrgName = Annotated[str, Field(min_length=1, max_length=80, examples=["Acme Odds"])]


class OrganizationCreate(RequestModel):
    """A new organisation."""

    name: OrgName


class OrganizationChange(RequestModel):
    """Fields to change. `limits`: by name; null is the default of the settings again."""

    disabled: bool = False
    limits: dict[str, Annotated[float, Field(ge=0, le=1e12)] | None] = Field(default_factory=dict)


class OrganizationBody(ResponseModel):
    """An organisation, with the limits set for it and what it stores."""

    id: UUID
    name: str
    created_at: AwareDatetime
    disabled_at: AwareDatetime | None
    limits: dict[str, float]
    rows: int
    stored_mb: float


class Organizations(ResponseModel):
    """All organisations, by name."""

    organizations: list[OrganizationBody]


class TokenCreate(RequestModel):
    """A new token. `days`: until it expires; null is never.

    `data`: whether one of an organisation may read the operator's odds and news.
    """

    label: Name = "api"
    scope: Scope = Scope.READ
    days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    data: bool = False


class TokenBody(ResponseModel):
    """A token without its secret. `org_id`: null is the operator."""

    id: UUID
    org_id: UUID | None
    label: str
    scope: Scope
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    data: bool


class TokenCreated(TokenBody):
    """A token that was just created, with its secret."""

    token: str


class Tokens(ResponseModel):
    """The tokens of an organisation or of the operator, oldest first."""

    tokens: list[TokenBody]


class JobsQuery(RequestModel):
    """Whether the schedules of organisations are listed too."""

    collections: Flag = False


class JobBody(ResponseModel):
    """A schedule. `due`: in words. `frontier`: up to here every tick has its outcome."""

    job: str
    task: str
    due: str
    enabled: bool
    paused_at: AwareDatetime | None
    paused_by: str | None
    paused_note: str | None
    next: AwareDatetime | None
    frontier: AwareDatetime


class JobList(ResponseModel):
    """The schedules, by name."""

    jobs: list[JobBody]


# Webhooks


class WebhookCreate(RequestModel):
    """A new webhook: the https address that gets the changes."""

    url: Annotated[str, Field(min_length=1, max_length=2000, examples=["https://example.com/in"])]


class WebhookBody(ResponseModel):
    """A webhook. `next`: the place up to which deliveries were made; `waiting`: how many wait."""

    id: UUID
    url: str
    created_at: AwareDatetime
    created_by: str
    paused_at: AwareDatetime | None
    paused_reason: str | None
    next: str
    waiting: int


class WebhookCreated(WebhookBody):
    """A webhook that was just created, with the secret of its signatures."""

    secret: str


class Webhooks(ResponseModel):
    """The organisation's webhooks, oldest first."""

    webhooks: list[WebhookBody]


class WebhookTest(ResponseModel):
    """The id of the delivery, which is sent as the header `webhook-id`."""

    id: str


class WebhookReplay(RequestModel):
    """After which place in the feed deliveries are sent again; 0 is the beginning."""

    after: Place


class Replayed(ResponseModel):
    """How many deliveries are sent again."""

    deliveries: int


class DeliveriesQuery(PageQuery):
    """Filter and pagination of deliveries."""

    state: DeliveryState | None = None


class DeliveryBody(ResponseModel):
    """One message: the changes after `after` up to `next`, `count` of them; a test has none.

    `status`: of the last response. `reason`: why the last attempt failed.
    """

    id: str
    count: int
    state: DeliveryState
    attempts: int
    created_at: AwareDatetime
    next_try_at: AwareDatetime
    ended_at: AwareDatetime | None
    status: int | None
    reason: str | None
    after: str
    next: str


class Deliveries(ResponseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryBody]
    next_cursor: str | None


# Presets


class PresetSource(RequestModel):
    """A source and its parameters."""

    source: SourceName
    params: dict[str, Any] = Field(default_factory=dict)


Sources = Annotated[list[PresetSource], Field(min_length=1, max_length=200)]


class PresetCreate(RequestModel):
    """A new preset."""

    name: Name
    sources: Sources


class PresetChange(RequestModel):
    """Fields to change; omitted fields are kept."""

    name: Name = Field(default_factory=str)
    sources: Sources = Field(default_factory=list[PresetSource])


class PresetSourceBody(ResponseModel):
    """A source and its parameters, as stored."""

    source: str
    params: dict[str, Any] = Field(default_factory=dict)


class PresetBody(ResponseModel):
    """A named set of sources. Built-in presets can be chosen but not changed."""

    id: UUID
    name: str
    built_in: bool
    sources: list[PresetSourceBody]
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Presets(ResponseModel):
    """All presets that can be chosen, built-in ones first."""

    presets: list[PresetBody]


# Sources of an organisation

PATH_PATTERNS = {
    "name": NAME_PATTERN,
    "collection": NAME_PATTERN_OF_COLLECTIONS,
    "what": r"^(items|changes|runs)$",
    "story": r"^[0-9]{1,18}$",
    "secret": r"^[A-Za-z][A-Za-z0-9_]{0,59}$",
}  # patterns of path parameters
RecipeName = Annotated[str, Field(pattern=NAME_PATTERN, examples=["shop"])]
RecipeText = Annotated[
    str,
    Field(
        min_length=1,
        description=f"A recipe in TOML of at most {MAX_RECIPE_LENGTH:,} characters;"
        " see docs/sources.md.",
    ),
]


class OrgSourceCreate(RequestModel):
    """A new recipe. `name`, if given, must equal the name in the recipe."""

    recipe: RecipeText
    name: RecipeName = Field(default_factory=str)


class OrgSourceChange(RequestModel):
    """The recipe that replaces the current one."""

    recipe: RecipeText


class DryRunRequest(RequestModel):
    """A recipe to fetch one page by; it need not be stored."""

    recipe: RecipeText


class OrgSourceSummary(ResponseModel):
    """An organisation's source. `source`: its name in presets."""

    name: str
    source: str
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class OrgSourceBody(OrgSourceSummary):
    """An organisation's source, with its recipe as it was written."""

    recipe: str


class OrgSourceList(ResponseModel):
    """The organisation's sources, by name."""

    sources: list[OrgSourceSummary]


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


class SecretValue(RequestModel):
    """The value of a secret. It is never returned.

    The minimum length makes it possible to mask the value where a site echoes it.
    """

    value: SecretStr = Field(min_length=4, max_length=8_000)


class SecretName(ResponseModel):
    """A secret's name, and when it was last set."""

    name: str
    updated_at: AwareDatetime


class SecretNames(ResponseModel):
    """The names of the organisation's secrets."""

    secrets: list[SecretName]
