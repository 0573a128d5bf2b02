"""Pagination of one partition: which page is next, and what shows that a page is the last. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.core.errors import Failure, HttpStatus, Incomplete
from app.core.messages import RawPage, SourceRequest
from app.sources.base import ListingEnd
from app.sources.recipes.paging import RecipeRequestBuilder, request_identity
from app.sources.recipes.paging_blocks import ByCursor, ByOffset, ByPage, OnePage
from app.sources.recipes.reading import PageReading


@dataclass(frozen=True, slots=True)
class _ReadPage:
    """A page that was read: its request, and the keys of its rows."""

    number: int
    request: SourceRequest
    keys: Sequence[str]
    content_hash: bytes


@dataclass(slots=True)
class RecipePagination:
    """Pagination progress of one partition.

    `page_number`: pages read. `records_seen`: records read, repeated ones included.
    `total`: the greatest number of records that the site has reported.
    `interval`: seconds after which the last page is worth requesting again.
    """

    requests: RecipeRequestBuilder
    page_number: int = 0
    records_seen: int = 0
    total: int | None = None
    interval: float | None = None
    _keys: set[str] = field(default_factory=set[str])
    _unnamed: int = 0  # rejected records without a key
    _asked: SourceRequest | None = None  # the last request
    _read: _ReadPage | None = None  # the last page
    _followed: _ReadPage | None = None  # a page that the last request went beyond
    _media_type: str = ""
    _list_seen: bool = False
    _first_is_keyless: bool = False
    _container: str | None = None
    _requested: set[tuple[str, bytes | None]] = field(default_factory=set[tuple[str, bytes | None]])
    _contents: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def first_request(self) -> SourceRequest:
        return self._ask(self.requests.first_request())

    def end_of_failure(self, failure: Failure) -> ListingEnd | Incomplete | None:
        """Return the end if the recipe names the status of `failure` as one, else None.

        Not on the first page: an address that was moved or mistyped is no empty listing.
        """
        named = failure.status in self.requests.recipe.paginate.end_status
        self._followed = self._read
        return self._ended(f"HTTP {failure.status}") if self.page_number and named else None

    def after(self, raw: RawPage, reading: PageReading) -> SourceRequest | ListingEnd | Incomplete:
        """Return the request for the page after this one, or the end that this page shows.

        Incomplete if there is no next page to request although no end was seen.
        Raises Schema or UnsafeAddress if the site names a next page that must not be requested, and
        Incomplete if the first page is not a page of the list.
        """
        paginate = self.requests.recipe.paginate
        self._followed = self._read
        self.page_number += 1
        self.interval = reading.interval
        if self.page_number == 1:
            self.requests = self.requests.after_first_page(raw.url)
        if raw.status in paginate.end_status:
            return self._ended(f"HTTP {raw.status}")
        unrecognised = None
        if not reading.ended:
            unrecognised = self._unrecognised(reading) or self._other_media_type(raw)
        fault = unrecognised or self._repetition(reading)
        if reading.cut_off:
            fault = fault or f"page {self.page_number} is cut off: {reading.malformed}"
        self._count(reading)
        self._note_page(reading)
        if reading.ended:
            return self._ended("end_when")
        if unrecognised and self.page_number == 1:
            raise Incomplete.of(raw, unrecognised)
        if fault:
            return Incomplete.of(raw, fault)
        following = self._following(raw, reading)
        return self._checked(following) if isinstance(following, SourceRequest) else following

    def check_request(self) -> SourceRequest | None:
        """Return a request for the page before the last one; None if it need not be compared.

        Rows that leave a list move later ones up, onto pages that were read already. No page after
        them shows it, and a total may be as it was.
        """
        page = self._followed
        if self.requests.recipe.paginate.stable or page is None or not page.keys:
            return None
        return replace(page.request, check_page=page.number)

    def movement(self, again: PageReading) -> Incomplete | None:
        """Return Incomplete if the page, requested again, shows that later rows have moved up."""
        page = self._followed
        if page is None or again.content_hash == page.content_hash:
            return None
        keys, before = list(dict.fromkeys(row.key for row in again.rows)), set(page.keys)
        stayed = [key for key in keys if key in before]
        left = len(page.keys) - len(stayed)
        # Rows that join before the page push its last rows down, onto a page that is read later.
        pushed = len(stayed) > 0 and keys[-len(stayed) :] == list(page.keys[: len(stayed)])
        if not left or pushed:
            return None
        return Incomplete(
            f"{left} of the {len(page.keys)} rows of page {page.number} left it before the list was"
            " read, and later ones may have moved up unseen"
        )

    def refused_check(self, failure: Failure) -> Incomplete | None:
        """Return Incomplete if the site does not serve a page twice; None for other failures."""
        if not isinstance(failure, HttpStatus) or (failure.status or 500) >= 500:  # noqa: PLR2004 - 5xx
            return None
        number = self._followed.number if self._followed else self.page_number
        return Incomplete.of(
            failure,
            f"page {number} could not be compared with what it was: {failure}; if the rows of this"
            " list never move, set paginate.stable = true",
        )

    def _count(self, reading: PageReading) -> None:
        self.records_seen += reading.record_count
        self._keys.update(row.key for row in reading.rows)
        self._keys.update(row.key for row in reading.rejected if row.key is not None)
        self._unnamed += sum(row.key is None for row in reading.rejected)
        if reading.total is not None:
            self.total = max(reading.total, self.total or 0)
        self._list_seen = self._list_seen or not reading.place.single
        self._container = reading.place.container or self._container

    def _note_page(self, reading: PageReading) -> None:
        if self._asked is not None:
            keys = list(dict.fromkeys(row.key for row in reading.rows))
            self._read = _ReadPage(self.page_number, self._asked, keys, reading.content_hash)

    def _ask(self, request: SourceRequest) -> SourceRequest:
        self._requested.add(request_identity(request))
        self._asked = request
        return request

    @property
    def _distinct(self) -> int:
        """Records read; of exploded records the repeated ones too, as their rows have the keys."""
        if self.requests.recipe.extract.explode is not None:
            return self.records_seen
        return len(self._keys) + self._unnamed

    def _unrecognised(self, reading: PageReading) -> str | None:
        """Return why this is not known to be a page of the list; None if it is one."""
        page = f"page {self.page_number}"
        if reading.place.absent is not None:
            same_container = self._container is not None and self._container in reading.place.blocks
            return None if same_container else f"{page}: {reading.place.absent}"
        if self.page_number == 1:
            self._first_is_keyless = _is_keyless(reading)
            return None
        if reading.place.single and self._list_seen:
            return f"{page} has an object where the pages before have a list"
        if _is_keyless(reading) and not self._first_is_keyless:
            return f"{page} has no record with a key"
        if self._first_is_keyless and reading.rows:
            return f"page 1 has no record with a key, and {page} has"
        return None

    def _other_media_type(self, raw: RawPage) -> str | None:
        """Return how the media type differs from that of page 1: another program has answered."""
        media_type = raw.headers.get("content-type", "").partition(";")[0].strip().lower()
        first = self._media_type = self._media_type or media_type
        if not media_type or media_type == first:
            return None
        return f"page {self.page_number} is {media_type} where an earlier one is {first}"

    def _repetition(self, reading: PageReading) -> str | None:
        """Return how this page repeats an earlier one, or None if it does not."""
        first_seen = self._contents.setdefault(reading.content_hash, self.page_number)
        if first_seen != self.page_number:
            page = f"page {self.page_number} is page {first_seen} again"
            return f"{page}: the pagination has no effect"
        if not isinstance(self.requests.recipe.paginate, ByPage | ByOffset):
            return None
        before = self._read.keys if self._read else ()
        repeated = _overlap(before, [row.key for row in reading.rows])
        if not repeated:
            return None
        return (
            f"page {self.page_number} begins with the last {repeated} rows of the page before:"
            " the list moved while its pages were read"
        )

    def _following(
        self, raw: RawPage, reading: PageReading
    ) -> SourceRequest | ListingEnd | Incomplete:
        paginate = self.requests.recipe.paginate
        if reading.more is False:
            return self._ended("has_more is false")
        if isinstance(paginate, ByPage | ByOffset):
            ending = self._numbered_end(paginate, reading)
            if ending is not None:
                return ending
        following = self.requests.next_request(self.page_number, self.records_seen, raw, reading)
        if following is not None:
            return following
        missing = self._missing_sign(reading)
        if missing is not None:
            return Incomplete(f"page {self.page_number} names no next page and {missing}")
        return self._ended("the only page" if isinstance(paginate, OnePage) else "no next page")

    def _missing_sign(self, reading: PageReading) -> str | None:
        """Return why a page that names no next page is not known to be the last, or None."""
        paginate = self.requests.recipe.paginate
        if reading.more:
            return "says that there is more"
        if not reading.record_count:
            return None
        if paginate.has_more is not None:
            return "does not say whether there is more"
        if isinstance(paginate, ByCursor) and not reading.cursor_place:
            return f"has no {paginate.path.rpartition('.')[0]}, where the cursor is"
        return None

    def _numbered_end(
        self, paginate: ByPage | ByOffset, reading: PageReading
    ) -> ListingEnd | Incomplete | None:
        if not reading.record_count:
            if reading.more:
                page = f"page {self.page_number}"
                return Incomplete(f"{page} says that there is more, and its list is empty")
            return self._ended("an empty list")
        if reading.more:
            return None
        if self._distinct == self.total:  # a total that is exceeded counts something else
            return self._ended(f"the total of {self.total}")
        if paginate.short_page_ends and reading.record_count < (paginate.size or 0):
            return self._ended("a short page")
        return None

    def _ended(self, reason: str) -> ListingEnd | Incomplete:
        exploded = self.requests.recipe.extract.explode is not None
        if self.total is not None and self._distinct < self.total:
            return Incomplete(
                f"{self._distinct} records where the site says there are {self.total}"
            )
        # A total counts records, which do not compare to the rows of exploded records.
        return ListingEnd(reason, None if exploded else self.total)

    def _checked(self, request: SourceRequest) -> SourceRequest | ListingEnd | Incomplete:
        paginate = self.requests.recipe.paginate
        if request_identity(request) in self._requested:
            return Incomplete(
                f"the page after page {self.page_number} was already requested: pagination loops"
            )
        if self.page_number < paginate.max_pages:
            return self._ask(request)
        if paginate.enough:
            return ListingEnd("max_pages", whole=False)
        return Incomplete(f"there is more than max_pages = {self.page_number} allows")


def _is_keyless(reading: PageReading) -> bool:
    """Return whether a page has records, and none of them has a key: they may be anything."""
    rejected = reading.rejected
    return not reading.rows and bool(rejected) and not any(one.key for one in rejected)


def _overlap(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many of the last keys of one page are the first of the next, in the same order."""
    if not after or after[0] not in before:
        return 0
    repeated = before[before.index(after[0]) :]
    return len(repeated) if list(repeated) == list(after[: len(repeated)]) else 0
