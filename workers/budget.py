"""The budget of a collection's run: pages and bytes, over all its sources and attempts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.core.errors import BudgetExceeded, OverLimit
from app.fetch.client import RequestCounts
from app.orgs.limits import OrgLimits
from app.store.runs.progress import SourceProgress

MB = 1_000_000


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
        """Count a page that is about to be requested. Raises Spent if a limit is used up.

        Requests under way when the bytes are used up still complete.
        """
        had = self.bytes + sum(max(tally.bytes, tally.decoded) for tally in self.tallies)
        try:
            self.allowance.check("max_pages", self.pages + 1)
            self.allowance.check("max_mb", had / MB)
        except OverLimit as error:
            raise BudgetExceeded(f"no more pages may be requested: {error}") from error
        self.pages += 1

    def check_kept(self, rows: int, stored_bytes: int) -> None:
        """Raise BudgetExceeded if the organisation's items exceed what it may keep."""
        try:
            self.allowance.check("max_rows", rows)
            self.allowance.check("max_stored_mb", stored_bytes / MB)
        except OverLimit as error:
            raise BudgetExceeded(f"the page is not stored: {error}") from error
