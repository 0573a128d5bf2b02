"""Bodies and filters of runs."""

from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime

from app.core.enums import RunStatus, Trigger
from app.web.api.schemas.base import CollectionName, Instant, PageQuery, ResponseModel


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
