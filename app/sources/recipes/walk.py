"""Pagination state of one partition: which page is next, and when to stop. Pure."""

from dataclasses import dataclass, field
from http import HTTPStatus

from app.core.errors import HttpStatus, Incomplete
from app.core.messages import RawPage, SourceRequest
from app.sources.recipes.paging import RecipeRequestBuilder, request_identity
from app.sources.recipes.reading import PageReading


@dataclass(slots=True)
class RecipePagination:
    """Pagination progress of one partition.

    `page_number`: pages read. `records_seen`: records read. `total`: records that the site reports.
    `incomplete`: why pagination stopped before the last page, if it did.
    `interval`: seconds after which the last page is worth requesting again.
    """

    requests: RecipeRequestBuilder
    page_number: int = 0
    records_seen: int = 0
    total: int | None = None
    incomplete: Incomplete | None = None
    interval: float | None = None
    _requested: set[tuple[str, bytes | None]] = field(default_factory=set[tuple[str, bytes | None]])
    _contents: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def first_request(self) -> SourceRequest:
        """Return the request for the first page."""
        request = self.requests.first_request()
        self._requested.add(request_identity(request))
        return request

    def is_past_the_end(self, failure: HttpStatus) -> bool:
        """Return whether `failure` marks the end of the listing: some sites answer 404 past it."""
        return self.page_number > 0 and failure.status == HTTPStatus.NOT_FOUND

    def next_request(self, raw: RawPage, reading: PageReading) -> SourceRequest | None:
        """Return the request for the page after this one, or None after the last page.

        Raises Schema or Unsafe if the site names a next page that must not be requested.
        """
        self.page_number += 1
        self.records_seen += reading.record_count
        self.total = self.total if reading.total is None else reading.total
        self.interval = reading.interval
        first_seen = self._contents.setdefault(reading.content_hash, self.page_number)
        if first_seen != self.page_number:
            return self._end(
                f"page {self.page_number} is page {first_seen} again: the pagination has no effect"
            )
        request = self.requests.next_request(self.page_number, self.records_seen, raw, reading)
        return None if request is None else self._checked(request)

    def result(self) -> int | Incomplete | None:
        """Return what the source's `pages` returns: the reported total, Incomplete, or None."""
        if self.incomplete is not None:
            return self.incomplete
        # `total` counts records, which do not compare to the rows of exploded records.
        return None if self.requests.recipe.extract.explode is not None else self.total

    def _checked(self, request: SourceRequest) -> SourceRequest | None:
        if request_identity(request) in self._requested:
            return self._end(
                f"the page after page {self.page_number} was already requested: pagination loops"
            )
        if self.page_number < self.requests.recipe.paginate.max_pages:
            self._requested.add(request_identity(request))
            return request
        self.total = None
        if self.requests.recipe.paginate.enough:
            return None
        return self._end(f"there is more than max_pages = {self.page_number} allows")

    def _end(self, reason: str) -> None:
        self.incomplete = Incomplete(reason)
