"""Pagination state of one partition: which page is next, and when to stop. Pure."""

from dataclasses import dataclass, field
from http import HTTPStatus

from app.core.errors import HttpStatus, Incomplete
from app.core.messages import Raw, Request
from app.sources.recipes.paging import Asker, identity
from app.sources.recipes.reading import Reading


@dataclass(slots=True)
class Walk:
    """Pagination progress of one partition.

    `number`: pages read. `seen`: records read. `total`: records that the site reports.
    `ended`: why pagination stopped before the last page, if it did.
    `interval`: seconds after which the last page is worth requesting again.
    """

    asker: Asker
    number: int = 0
    seen: int = 0
    total: int | None = None
    ended: Incomplete | None = None
    interval: float | None = None
    _requested: set[tuple[str, bytes | None]] = field(default_factory=set[tuple[str, bytes | None]])
    _contents: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def first(self) -> Request:
        """Return the request for the first page."""
        request = self.asker.first()
        self._requested.add(identity(request))
        return request

    def past_the_end(self, failure: HttpStatus) -> bool:
        """Return whether `failure` marks the end of the listing: some sites answer 404 past it."""
        return self.number > 0 and failure.status == HTTPStatus.NOT_FOUND

    def after(self, raw: Raw, reading: Reading) -> Request | None:
        """Return the request for the page after this one, or None after the last page.

        Raises Schema or Unsafe if the site names a next page that must not be requested.
        """
        self.number += 1
        self.seen += reading.records
        self.total = self.total if reading.total is None else reading.total
        self.interval = reading.interval
        first_seen = self._contents.setdefault(reading.content, self.number)
        if first_seen != self.number:
            return self._end(
                f"page {self.number} is page {first_seen} again: the pagination has no effect"
            )
        request = self.asker.following(self.number, self.seen, raw, reading)
        return None if request is None else self._checked(request)

    def promised(self) -> int | Incomplete | None:
        """Return what the source's `pages` returns: the reported total, Incomplete, or None."""
        if self.ended is not None:
            return self.ended
        # `total` counts records, which do not compare to the rows of exploded records.
        return None if self.asker.recipe.extract.explode is not None else self.total

    def _checked(self, request: Request) -> Request | None:
        if identity(request) in self._requested:
            return self._end(
                f"the page after page {self.number} was already requested: pagination loops"
            )
        if self.number < self.asker.recipe.paginate.max_pages:
            self._requested.add(identity(request))
            return request
        self.total = None
        if self.asker.recipe.paginate.enough:
            return None
        return self._end(f"there is more than max_pages = {self.number} allows")

    def _end(self, reason: str) -> None:
        self.ended = Incomplete(reason)
