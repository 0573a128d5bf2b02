"""Bodies of an organisation's usage."""

from app.web.api.schemas.base import ResponseModel


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
