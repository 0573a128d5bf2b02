"""What goes over the wire, as pydantic models: they check, answer, and write the document."""

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

from app.errors import BadSchedule
from app.recipes.load import LARGEST
from app.recipes.model import NAME
from app.scheduling.cron import check_zone
from app.words import RunStatus, Trigger

MOST = 200  # rows of a page
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be printable characters, and not only spaces")
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
        raise ValueError("must be an instant with its zone, like 2026-11-21T06:00:00Z")
    return value


def _in_our_time(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise ValueError("must lie between 1970 and 3000")
    return value


def _said(value: object) -> object:
    if value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value == "true"


def _unsaid() -> None:
    """Stands where nothing was said: a default that the OpenAPI document does not name."""


Text = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)]
Note = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Expression = Annotated[str, Field(min_length=1, max_length=500, examples=["*/30 6-22 * * MON-FRI"])]
Zone = Annotated[
    str,
    Field(min_length=1, max_length=64, examples=["Europe/Berlin"]),
    AfterValidator(_zone),
]
Limit = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(_digits)]
Instant = Annotated[AwareDatetime, AfterValidator(_in_our_time), BeforeValidator(_instant)]
Flag = Annotated[bool, BeforeValidator(_said), WithJsonSchema({"type": "boolean"})]
Cursor = Annotated[str, Field(min_length=1, max_length=300)]


class Wanted(BaseModel):
    """What somebody sends. Unknown names are refused, and nothing is guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """What somebody gets."""

    model_config = ConfigDict(frozen=True)


class Nothing(Wanted):
    """No parameters, and no others either."""


# The schedule


class Schedule(Shown):
    """The organisation's schedule; the defaults if it has none."""

    id: int | None
    preset_id: UUID | None
    preset_name: str | None
    cron_expression: str
    timezone: str
    enabled: bool
    notify: bool
    last_run_at: AwareDatetime | None
    last_status: RunStatus | None
    next_run_at: AwareDatetime | None


class ScheduleChange(Wanted):
    """What is to be different. What is not said stays; `preset_id` may be null: nothing chosen."""

    preset_id: UUID | None = Field(default_factory=_unsaid)
    cron_expression: Expression = Field(default_factory=str)
    timezone: Zone = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool)
    notify: bool = Field(default_factory=bool)


class Pausing(Wanted):
    """Why the schedule is to rest."""

    note: Note


class Resuming(Wanted):
    """Why it goes on, if there is anything to say."""

    note: Note | None = None


class Pause(Shown):
    """Whether the schedule rests, since when, by whom and why."""

    paused: bool
    paused_at: AwareDatetime | None
    paused_by: str | None
    note: str | None


class PreviewQuery(Wanted):
    """The rule to look at."""

    cron: Expression
    timezone: Zone = "UTC"


class Occasion(Shown):
    """One instant of a rule. `moved`: the clocks skip the time it names; `note` says so."""

    utc: AwareDatetime
    local: AwareDatetime
    moved: bool
    note: str | None


class Preview(Shown):
    """What a rule says in plain words, and when it is due next: up to ten instants."""

    cron_expression: str
    timezone: str
    words: str
    instants: list[Occasion]


# Pages


class Paged(Wanted):
    """A page: how many rows, and where the page before ended."""

    limit: Limit = 50
    cursor: Cursor | None = None


class Edit(Shown):
    """Who changed the schedule, when, and from what to what."""

    id: int
    at: AwareDatetime
    by: str
    action: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Edits(Shown):
    """A page of edits, the last first."""

    edits: list[Edit]
    next_cursor: str | None


class RunsQuery(Paged):
    """Which runs."""

    status: RunStatus | None = None
    since: Instant | None = None


class Run(Shown):
    """One run. `scheduled_for` is null for one that was asked for."""

    id: UUID
    trigger: Trigger
    scheduled_for: AwareDatetime | None
    status: RunStatus
    queued_at: AwareDatetime
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    duration_seconds: float | None
    error_type: str | None
    error_message: str | None
    stats: dict[str, Any]


class Runs(Shown):
    """A page of runs, the newest first."""

    runs: list[Run]
    next_cursor: str | None


class RunSource(Shown):
    """What one source of a run did."""

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


class RunWithSources(Run):
    """One run, with what each source did."""

    requested_by: str | None
    attempt: int
    sources: list[RunSource]


class QueuedRun(Shown):
    """A run that has just been asked for."""

    run_id: UUID
    status: Literal["queued"] = "queued"
    queued_at: AwareDatetime


class ItemsQuery(Paged):
    """Which items. `missing`: only those that the last listing lacked, or only those it had."""

    source: Word | None = None
    changed_since: Instant | None = None
    missing: Flag | None = None


class Item(Shown):
    """One thing that was collected, as it was last seen."""

    source: str
    key: str
    data: dict[str, Any]
    first_seen: AwareDatetime
    last_seen: AwareDatetime
    changed_at: AwareDatetime
    missing_since: AwareDatetime | None


class Items(Shown):
    """A page of items, the last changed first."""

    items: list[Item]
    next_cursor: str | None


# Presets


class Chosen(Wanted):
    """A source, and what it is to be asked for."""

    source: Word
    params: dict[str, Any] = Field(default_factory=dict)


Sources = Annotated[list[Chosen], Field(min_length=1, max_length=200)]


class PresetWanted(Wanted):
    """A new preset."""

    name: Text
    sources: Sources


class PresetChange(Wanted):
    """What is to be different. What is not said stays."""

    name: Text = Field(default_factory=str)
    sources: Sources = Field(default_factory=list[Chosen])


class ShownSource(Shown):
    """A source, and what it is asked for."""

    source: str
    params: dict[str, Any] = Field(default_factory=dict)


class Preset(Shown):
    """A named set of sources. Built in ones can be chosen, not changed."""

    id: UUID
    name: str
    built_in: bool
    sources: list[ShownSource]
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Presets(Shown):
    """Every preset that may be chosen, built in ones first."""

    presets: list[Preset]


# Sources of one's own

NAMES = {"name": NAME, "secret": r"^[A-Za-z][A-Za-z0-9_]{0,59}$"}  # of what stands in an address
RecipeName = Annotated[str, Field(pattern=NAME, examples=["shop"])]
RecipeText = Annotated[
    str,
    Field(
        min_length=1,
        description=f"A recipe in TOML of at most {LARGEST:,} characters; see docs/sources.md.",
    ),
]


class OwnSourceWanted(Wanted):
    """A new recipe. `name`, if said, must be the one that the recipe says."""

    recipe: RecipeText
    name: RecipeName = Field(default_factory=str)


class OwnSourceChange(Wanted):
    """The recipe that is to take the place of the one before."""

    recipe: RecipeText


class RecipeToTry(Wanted):
    """A recipe that need not be kept."""

    recipe: RecipeText


class OwnSourceLine(Shown):
    """A recipe of the organisation's own. `source`: what a preset calls it."""

    name: str
    source: str
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class OwnSource(OwnSourceLine):
    """The same, with its text as it was written."""

    recipe: str


class OwnSources(Shown):
    """Every recipe of the organisation's own, by name."""

    sources: list[OwnSourceLine]


class TriedRow(Shown):
    """A row as it would be stored; long texts are cut short."""

    key: str
    data: dict[str, Any]


class TriedRefusal(Shown):
    """A row that would be kept aside, and why."""

    key: str | None
    reason: str


class TriedField(Shown):
    """A column: its type, in how many rows it is empty, and the first value it has."""

    name: str
    type: str
    empty: int
    example: Any


class TriedFailure(Shown):
    """Why the page could not be had or read."""

    kind: str
    message: str


class Tried(Shown):
    """What one page of a recipe has. Nothing of it is stored.

    `found` and `refused` count rows, of which `rows` and `refusals` show the first.
    `more`: there are further pages.
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
    rows: list[TriedRow]
    refusals: list[TriedRefusal]
    fields: list[TriedField]
    more: bool
    failure: TriedFailure | None


class SecretWanted(Wanted):
    """What a secret is to be from now on. It is never shown again.

    Shorter ones could not be told from ordinary text, where a site says them back to us.
    """

    value: SecretStr = Field(min_length=4, max_length=8_000)


class SecretName(Shown):
    """A secret's name, and when it was last set."""

    name: str
    updated_at: AwareDatetime


class SecretNames(Shown):
    """The names of the organisation's secrets."""

    secrets: list[SecretName]
