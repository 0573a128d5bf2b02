"""AskNews: articles and stories about tracked entities, with one partition per entity.

Facts about the site:
- `profiles/me/limits` is free of charge and returns the rate limits of the plan. It needs its own
  scope, so a valid key may be refused there; the free plan's limit of one call per ten seconds is
  used then.
- An error is `{"code", "detail"}`; the code is the HTTP status and three digits. 429000 is the rate
  limit, 429001 the concurrency limit, 403xxx a plan that does not allow the call or is used up.
- A page holds at most 101 articles, on the free plan 10. If a plan refuses the larger page, the
  smaller size is used for the rest of the run. A plan that silently returns fewer is harmless,
  because only the offset determines the next page.
- The offset is a number, a uuid or null. Null and an empty list are the end, and so is a page with
  fewer records than the smallest page size, which saves a call. A repeated offset is not.
- News older than 48 hours is searched only with `historical`, which costs more.
- In a plan, a page of news of the last 48 hours counts as 1 request, and a page of stories as 10.
- Podcasts are among the articles unless they are excluded.
- 402 is a plan that is used up; nothing else is requested then.
- Lists are repeated keys, booleans are `True` and `False`.
- `start_timestamp` filters by crawl date if requested; the publisher's date is unreliable.
- `classification` is a list or a string. Other fields change between versions of the site, so only
  stored fields are decoded.
- `sentiment[i]` of a story belongs to `sentiment_timestamps[i]`. The lists may differ in length;
  unpaired members are ignored until their counterpart appears.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

import msgspec

from app.core.errors import Auth, Failure, Gap, Incomplete, RateLimited
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Record
from app.sources.base import ListingEnd
from app.sources.sites import odds
from app.sources.sites.asknews_limits import AskNewsLimits
from app.sources.sites.asknews_records import article_of, story_of

NEWS = "asknews_news"
STORIES = "asknews_stories"

NEWS_PAGE_SIZE = 100
STORIES_PAGE_SIZE = 50  # the page size of the provider's own client
MIN_PAGE_SIZE = 10

_NO_OFFSET = frozenset[int | str | None]({None, 0, "0", ""})
_REFUSED_SIZE = frozenset({403, 422})
_PAYMENT_REQUIRED = 402
_FORBIDDEN = 403
_TOO_MANY_REQUESTS = 429
_CONCURRENCY_CODE = "429001"
_CODE = re.compile(r'"code":\s*(\d{6})')

QueryParams = list[tuple[str, str]]
Offset = int | str | None
Stretch = tuple[datetime, datetime]
PageDecoder = Callable[[RawPage], tuple[int, Offset]]


class _Search(msgspec.Struct):
    as_dicts: list[msgspec.Raw] | None
    offset: int | str | None = None


class _Stories(msgspec.Struct):
    stories: list[msgspec.Raw]
    offset: int | str | None = None


_search = msgspec.json.Decoder(_Search)
_stories = msgspec.json.Decoder(_Stories)


@dataclass
class _AskNewsSource(ABC):
    """What articles and stories have in common: one partition per entity, back to its `since`.

    `since`: crawl time after which records are requested, by entity. `max_pages`: per entity.
    `gaps`: the stretch since the last poll that is not requested, by entity. `pace`: limits learnt
    during the run.
    """

    catalogue_cost: ClassVar[int] = 0  # the limits of the plan are free
    path: ClassVar[str]
    size_name: ClassVar[str]  # the parameter of the page size

    base_url: str
    entities: Sequence[str] = ()
    since: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    max_pages: int = 5
    gaps: Mapping[str, Stretch] = field(default_factory=dict[str, Stretch])
    pace: AskNewsLimits = field(kw_only=True)

    @property
    def limits(self) -> HostLimits:
        """The limits of the plan once they are known."""
        return self.pace.limits

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return one partition per entity, after requesting the limits of the plan."""
        yield from self.pace.request_limits(self.base_url)
        return [Partition(entity) for entity in self.entities]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:
        """Request the newest records of the entity, page by page, back to its `since`.

        Incomplete if there are more than `max_pages`. Raises Auth and RateLimited.
        """
        asked: QueryParams = [
            ("query", part.key),
            ("method", "kw"),
            *self._query(part.key),
            *_since(self.since.get(part.key)),
        ]
        pagination = _Pagination(
            f"{self.base_url}{self.path}", asked, self.size_name, self.pace, self.max_pages
        )
        end = yield from pagination.follow(self._read)
        return _with_gap(end, self.gaps.get(part.key))

    @abstractmethod
    def _query(self, entity: str) -> QueryParams:
        """Return the parameters that only this kind of record has."""

    @abstractmethod
    def _read(self, raw: RawPage) -> tuple[int, Offset]:
        """Return the number of records of a page, and the offset of the next."""


@dataclass
class AskNewsNews(_AskNewsSource):
    """Articles that mention the entities.

    `hours_back`: how far back articles are searched. `historical`: the same, by entity, where it is
    more than 48 hours. `podcasts`: whether podcasts are wanted.
    """

    path: ClassVar[str] = "/news/search"
    size_name: ClassVar[str] = "n_articles"

    hours_back: int = 48
    historical: Mapping[str, int] = field(default_factory=dict[str, int])
    podcasts: bool = False
    name: str = NEWS
    pace: AskNewsLimits = field(default_factory=lambda: AskNewsLimits(NEWS_PAGE_SIZE), kw_only=True)

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the articles of a search page. Raises Schema, ApiError or Blocked."""
        found = odds.decode(raw, _search).as_dicts or ()
        return [article_of(each, _entity(raw)) for each in found]

    def _query(self, entity: str) -> QueryParams:
        hours_back = self.historical.get(entity)
        return [
            ("return_type", "dicts"),
            ("time_filter", "crawl_date"),
            ("sort_by", "pub_date"),
            ("podcasts", "include" if self.podcasts else "none"),
            ("historical", str(hours_back is not None)),
            ("hours_back", str(hours_back or self.hours_back)),
        ]

    def _read(self, raw: RawPage) -> tuple[int, Offset]:
        page = odds.decode(raw, _search)
        return len(page.as_dicts or ()), page.offset


@dataclass
class AskNewsStories(_AskNewsSource):
    """Stories about the entities, with their updates and sentiment.

    `max_updates`: updates per story.
    """

    page_cost: ClassVar[int] = 10
    path: ClassVar[str] = "/stories"
    size_name: ClassVar[str] = "limit"

    max_updates: int = 10
    name: str = STORIES
    pace: AskNewsLimits = field(
        default_factory=lambda: AskNewsLimits(STORIES_PAGE_SIZE), kw_only=True
    )

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the stories of a page. Raises Schema, ApiError or Blocked."""
        found = odds.decode(raw, _stories).stories
        return [record for each in found for record in story_of(each, _entity(raw))]

    def _query(self, entity: str) -> QueryParams:
        del entity
        return [
            ("sort_by", "published"),
            ("sort_type", "desc"),
            ("expand_updates", "True"),
            ("max_updates", str(self.max_updates)),
        ]

    def _read(self, raw: RawPage) -> tuple[int, Offset]:
        page = odds.decode(raw, _stories)
        return len(page.stories), page.offset


def _since(since: datetime | None) -> QueryParams:
    return [] if since is None else [("start_timestamp", str(math.floor(since.timestamp())))]


def _with_gap(end: ListingEnd | Incomplete, stretch: Stretch | None) -> ListingEnd | Incomplete:
    """Return the end with the stretch before the window as its gap."""
    if stretch is None:
        return end
    start, stop = (f"{instant:%Y-%m-%d %H:%M}" for instant in stretch)
    window = f"from {start} to {stop} UTC was not requested: it is before ASKNEWS_LOOKBACK_HOURS"
    if isinstance(end, Incomplete):
        return Incomplete(f"{end}; {window}")
    return replace(end, gap=Gap(window))


@dataclass(slots=True)
class _Pagination:
    """Pagination of one entity."""

    url: str
    asked: QueryParams
    size_name: str
    pace: AskNewsLimits
    max_pages: int

    def follow(
        self, read: PageDecoder
    ) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:
        offset: Offset = None
        seen = set[Offset]()
        for _ in range(self.max_pages):
            count, offset = read((yield from self._page(offset)))
            if count < min(self.pace.size, MIN_PAGE_SIZE):
                return ListingEnd("a page with fewer records than the smallest page")
            if offset in _NO_OFFSET:
                return ListingEnd("no offset")
            if offset in seen:
                return Incomplete(f"the offset {str(offset)[:60]!r} is repeated")
            seen.add(offset)
        return Incomplete(
            f"more than {self.max_pages} pages since the last complete poll: raise"
            " ASKNEWS_MAX_PAGES, or poll more often"
        )

    def _page(self, offset: Offset) -> Generator[SourceRequest, RawPage, RawPage]:
        size = self.pace.size
        if self.pace.refused is not None:
            raise _translated(Auth, self.pace.refused, str(self.pace.refused))
        try:
            return (yield self._request(offset, size))
        except Failure as failure:
            if failure.status not in _REFUSED_SIZE or size <= MIN_PAGE_SIZE:
                raise self._noted(failure) from failure.__cause__
        raw = yield from self._smaller(offset)
        self.pace.size = MIN_PAGE_SIZE
        return raw

    def _smaller(self, offset: Offset) -> Generator[SourceRequest, RawPage, RawPage]:
        try:
            return (yield self._request(offset, MIN_PAGE_SIZE))
        except Failure as failure:
            raise self._noted(failure) from failure.__cause__

    def _noted(self, failure: Failure) -> Failure:
        """Return the failure translated; a plan that is used up stops all further requests."""
        translated = translate_failure(failure)
        if failure.status == _PAYMENT_REQUIRED and isinstance(translated, Auth):
            self.pace.refused = translated
        return translated

    def _request(self, offset: Offset, size: int) -> SourceRequest:
        start: QueryParams = [] if offset is None else [("offset", str(offset))]
        rest, self.pace.rest = self.pace.rest, 0.0
        params = (*self.asked, (self.size_name, str(size)), *start)
        return SourceRequest(self.url, params=params, wait=rest)


def translate_failure(failure: Failure) -> Failure:
    """Return the failure with a message that names the limit of the site that caused it."""
    code = _CODE.search(str(failure))
    number = code[1] if code else str(failure.status)
    if failure.status == _PAYMENT_REQUIRED:
        return _translated(Auth, failure, f"the AskNews plan is used up ({number})")
    if failure.status == _FORBIDDEN:
        return _translated(
            Auth, failure, f"the AskNews plan does not allow this or is used up ({number})"
        )
    if failure.status == _TOO_MANY_REQUESTS and number == _CONCURRENCY_CODE:
        return _translated(
            RateLimited, failure, f"too many requests in flight ({number}, concurrency): {failure}"
        )
    if failure.status == _TOO_MANY_REQUESTS:
        return _translated(RateLimited, failure, f"too many requests ({number}, rate): {failure}")
    return failure


def _translated(kind: type[Failure], failure: Failure, message: str) -> Failure:
    return failure.restated(kind, message, retry=failure.retry, retry_in=failure.retry_in)


def _entity(raw: RawPage) -> str:
    return "" if raw.partition is None else raw.partition.key
