"""What storing one page wrote."""

from dataclasses import astuple, dataclass
from operator import add


@dataclass(frozen=True, slots=True)
class WriteCounts:
    """Counts of the records of a page, or of the prices of its events, which are `prices` too.

    `points`: new sentiment points of stories. `withdrawn`: stored prices no longer given.
    """

    given: int = 0
    inserted: int = 0
    changed: int = 0
    points: int = 0
    withdrawn: int = 0
    prices: int = 0

    @property
    def unchanged(self) -> int:
        return self.given - self.inserted - self.changed

    def plus(self, other: "WriteCounts") -> "WriteCounts":
        return WriteCounts(*map(add, astuple(self), astuple(other)))
