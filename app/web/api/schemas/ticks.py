"""Bodies and filters of ticks."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.core.enums import TickOutcome, TickReason
from app.web.api.schemas.base import Instant, PageQuery, ResponseModel


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


class AllTicksQuery(TicksQuery):
    """Filters and pagination of the ticks of all jobs, or of one."""

    job: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class JobTickBody(TickBody):
    """A tick with the name of its job."""

    job: str


class AllTicks(ResponseModel):
    """A page of ticks of all jobs, newest first."""

    ticks: list[JobTickBody]
    next_cursor: str | None
