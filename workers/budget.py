"""What a collection's run may still ask for and take in, over all its sources and attempts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.allowance import Allowance
from app.errors import OverLimit, Spent
from app.fetch.client import Tally
from app.store.progress import SourceRow

MB = 1_000_000


@dataclass(slots=True)
class Budget:
    """Counts pages as they are asked for, and bytes as they come in.

    `pages` asked for, and `bytes` had, by earlier attempts and this one. `tallies`: of this one.
    """

    allowance: Allowance
    pages: int = 0
    bytes: int = 0
    tallies: list[Tally] = field(default_factory=list[Tally])

    def taken(self, rows: Iterable[SourceRow]) -> None:
        """Count what earlier attempts have had."""
        for row in rows:
            self.pages += max(row.requests - row.retries, 0)
            self.bytes += row.bytes

    def take(self) -> None:
        """Count a page that is about to be asked for. Raises Spent if it must not be.

        Of the pages under way when the bytes run out, each is still had.
        """
        had = self.bytes + sum(tally.bytes for tally in self.tallies)
        try:
            self.allowance.check("max_pages", self.pages + 1)
            self.allowance.check("max_mb", had / MB)
        except OverLimit as error:
            raise Spent(f"no page more: {error}") from error
        self.pages += 1
