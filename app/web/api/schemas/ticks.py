"""Bodies and filters of ticks."""

from uuid import UUID

from pydantic import AwareDatetime

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
