"""Budgets: of a collection's run, in pages and bytes, and of a source, in requests a month."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from app.core.config import Config
from app.core.errors import BudgetExceeded
from app.fetch.client import RequestCounts
from app.orgs.limits import OrgLimits
from app.sources.base import Source
from app.store.db import Pool
from app.store.runs import source_usage
from app.store.runs.progress import SourceProgress

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class MonthlyBudget:
    """The requests that MONTHLY_REQUESTS allows a source, over all workers.

    `page_cost`, `catalogue_cost`: what a request counts in the site's plan.
    """

    source: str
    requests: int
    page_cost: int = 1
    catalogue_cost: int = 1

    @classmethod
    def of(cls, source: Source, config: Config) -> "MonthlyBudget | None":
        requests = config.monthly_requests.get(source.name)
        if requests is None:
            return None
        return cls(
            source.name,
            requests,
            getattr(source, "page_cost", 1),
            getattr(source, "catalogue_cost", 1),
        )

    async def spend(self, pool: Pool, now: datetime, *, catalogue: bool) -> None:
        """Count a request that is about to be made. Raises BudgetExceeded if none is left."""
        cost = self.catalogue_cost if catalogue else self.page_cost
        if cost and not await source_usage.spend(pool, self.source, cost, self.requests, now):
            raise BudgetExceeded(
                f"the budget of {self.source} for {now:%B %Y} is used up: {self.requests}"
                f" requests (MONTHLY_REQUESTS), and a page costs {cost}"
            )


@dataclass(slots=True)
class CollectionBudget:
    """Counts pages when they are requested, and bytes when they are received.

    `pages`: requested by all attempts. `bytes`: received by earlier attempts; `tallies` count those
    of this one.
    """

    allowance: OrgLimits
    pages: int = 0
    bytes: int = 0
    tallies: list[RequestCounts] = field(default_factory=list[RequestCounts])

    def count_earlier(self, rows: Iterable[SourceProgress]) -> None:
        """Add the pages and bytes of earlier attempts."""
        for row in rows:
            self.pages += max(row.requests - row.retries, 0)
            self.bytes += row.bytes

    def count_page(self) -> None:
        """Count a page that is about to be requested. Raises BudgetExceeded if a limit is used up.

        Requests under way when the bytes are used up still complete.
        """
        had = self.bytes + sum(max(tally.bytes, tally.decoded) for tally in self.tallies)
        limits = self.allowance
        fault = limits.fault("max_pages", self.pages + 1) or limits.fault("max_mb", had / MB)
        if fault:
            raise BudgetExceeded(f"no more pages may be requested: {fault}")
        self.pages += 1

    def check_kept(self, rows: int, stored_bytes: int) -> None:
        """Raise BudgetExceeded if the organisation's items exceed what it may keep."""
        limits, megabytes = self.allowance, stored_bytes / MB
        fault = limits.fault("max_rows", rows) or limits.fault("max_stored_mb", megabytes)
        if fault:
            raise BudgetExceeded(f"the page is not stored: {fault}")
