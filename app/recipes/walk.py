"""The way through one partition: page after page, until there are no more or they repeat. Pure."""

from dataclasses import dataclass, field
from http import HTTPStatus

from app.errors import HttpStatus, Incomplete
from app.messages import Raw, Request
from app.recipes.paging import Asker, identity
from app.recipes.reading import Reading


@dataclass(slots=True)
class Walk:
    """How far it has come. `ended`: why it stopped before the end, if it did."""

    asker: Asker
    number: int = 0
    seen: int = 0
    total: int | None = None
    ended: Incomplete | None = None
    interval: float | None = None
    _asked: set[tuple[str, bytes | None]] = field(default_factory=set[tuple[str, bytes | None]])
    _contents: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def first(self) -> Request:
        """What to ask for first."""
        request = self.asker.first()
        self._asked.add(identity(request))
        return request

    def past_the_end(self, failure: HttpStatus) -> bool:
        """Whether a site says with this that there are no more pages; some do."""
        return self.number > 0 and failure.status == HTTPStatus.NOT_FOUND

    def after(self, raw: Raw, reading: Reading) -> Request | None:
        """What to ask for after this page. Raises Schema or Unsafe if that cannot be asked for."""
        self.number += 1
        self.seen += reading.records
        self.total = self.total if reading.total is None else reading.total
        self.interval = reading.interval
        before = self._contents.setdefault(reading.content, self.number)
        if before != self.number:
            return self._end(f"page {self.number} is page {before} again: the site pages otherwise")
        request = self.asker.following(self.number, self.seen, raw, reading)
        return None if request is None else self._checked(request)

    def promised(self) -> int | Incomplete | None:
        """What the source says of it in the end."""
        paged = self.asker.recipe
        counted = None if paged.extract.explode is not None else self.total
        return counted if self.ended is None else self.ended

    def _checked(self, request: Request) -> Request | None:
        if identity(request) in self._asked:
            return self._end(
                f"after page {self.number} comes one that was had: it goes in a circle"
            )
        if self.number < self.asker.recipe.paginate.max_pages:
            self._asked.add(identity(request))
            return request
        self.total = None
        if self.asker.recipe.paginate.enough:
            return None
        return self._end(f"there is more than max_pages = {self.number} lets us ask for")

    def _end(self, why: str) -> None:
        self.ended = Incomplete(why)
