"""The budget of a collection's run: pages and bytes, over all its sources and attempts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.core.errors import OverLimit, Spent
from app.fetch.client import Tally
from app.orgs.limits import Allowance
from app.store.runs.progress import SourceRow

MB = 1_000_000


@dataclass(slots=True)
class Budget:
    """Counts pages when they are requested, and bytes when they are received.

    `pages`: requested by all attempts. `bytes`: received by earlier attempts; `tallies` count those
    of this one.
    """

    allowance: Allowance
    pages: int = 0
    bytes: int = 0
    tallies: list[Tally] = field(default_factory=list[Tally])

    def taken(self, rows: Iterable[SourceRow]) -> None:
        """Add the pages and bytes of earlier attempts."""
        for row in rows:
            self.pages += max(row.requests - row.retries, 0)
            self.bytes += row.bytes

    def take(self) -> None:
        """Count a page that is about to be requested. Raises Spent if a limit is used up.

        Requests under way when the bytes are used up still complete.
        """
        had = self.bytes + sum(tally.bytes for tally in self.tallies)
        try:
            self.allowance.check("max_pages", self.pages + 1)
            self.allowance.check("max_mb", had / MB)
        except OverLimit as error:
            raise Spent(f"no more pages may be requested: {error}") from error
        self.pages += 1
