"""Bodies of schedules: settings, pauses, edits and previews."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.core.enums import Coalesce, Overlap, RunStatus
from app.web.api.schemas.base import (
    Expression,
    Note,
    OptionalRequest,
    RequestModel,
    ResponseModel,
    Zone,
    omitted,
)

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

    preset_id: UUID | None = Field(default_factory=omitted)
    cron_expression: Expression = Field(default_factory=str)
    timezone: Zone = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool)
    notify: bool = Field(default_factory=bool)
    overlap: Overlap | None = Field(default_factory=omitted)
    coalesce: Coalesce | None = Field(default_factory=omitted)
    catch_up: Annotated[int, Field(ge=1, le=1000)] | None = Field(default_factory=omitted)
    misfire_grace_seconds: PolicySeconds | None = Field(default_factory=omitted)
    jitter_seconds: PolicySeconds | None = Field(default_factory=omitted)
    timeout_seconds: PolicySeconds | None = Field(default_factory=omitted)
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = Field(default_factory=omitted)
    exclude: Annotated[list[ExcludeRule], Field(max_length=200)] | None = Field(
        default_factory=omitted
    )
    start: ExcludeRule | None = Field(default_factory=omitted)
    end: ExcludeRule | None = Field(default_factory=omitted)


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


class ResumeRequest(OptionalRequest):
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
