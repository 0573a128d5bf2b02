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

import hashlib
import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import msgspec

from app.core.errors import Auth, Failure, Gap, Incomplete, RateLimited
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Article, Record, Rejected, SentimentPoint, Story, StoryUpdate
from app.sources.base import ListingEnd
from app.sources.sites import odds
from app.sources.sites.odds import DECODE_ERRORS

PROVIDER = "asknews"
NEWS = "asknews_news"
STORIES = "asknews_stories"

INITIAL_LIMITS = HostLimits(rate=1, burst=1, concurrency=1)
FREE_PLAN_LIMITS = HostLimits(rate=0.1, burst=1, concurrency=1)
MAX_LIMITS = HostLimits(rate=50, burst=50, concurrency=4)
NEWS_PAGE_SIZE = 100
STORIES_PAGE_SIZE = 50  # the page size of the provider's own client
MIN_PAGE_SIZE = 10
RATE_MARGIN = 0.9  # share of the allowed rate that is used, because network delays bunch requests
MAX_REST_SECONDS = 30.0

_NO_OFFSET = frozenset[int | str | None]({None, 0, "0", ""})
_REFUSED_SIZE = frozenset({403, 422})
_PAYMENT_REQUIRED = 402
_FORBIDDEN = 403
_TOO_MANY_REQUESTS = 429
_CONCURRENCY_CODE = "429001"
_CODE = re.compile(r'"code":\s*(\d{6})')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1990, 2100)
_MAX_SENTIMENT = 100
_MAX_ARTICLES = 2**31 - 1
_MAX_FAULTS = 5

QueryParams = list[tuple[str, str]]
Offset = int | str | None
Stretch = tuple[datetime, datetime]
PageDecoder = Callable[[RawPage], tuple[int, Offset]]


class _Limits(msgspec.Struct):
    request_rate: float
    request_rate_capacity: float = 1
    request_rate_remaining: float | None = None
    retry_after: float | None = None
    concurrency_limit: float = 1


class _Search(msgspec.Struct):
    as_dicts: list[msgspec.Raw] | None
    offset: int | str | None = None


class _Stories(msgspec.Struct):
    stories: list[msgspec.Raw]
    offset: int | str | None = None


class _Article(msgspec.Struct):
    pub_date: str
    article_id: str | None = None
    article_url: str | None = None
    title: str | None = None
    eng_title: str | None = None
    summary: str | None = None
    source_id: str | None = None
    domain_url: str | None = None
    language: str | None = None
    country: str | None = None
    sentiment: float | None = None
    classification: list[str] | str | None = None
    keywords: list[str] | None = None
    entities: dict[str, list[str] | None] | None = None


class _Story(msgspec.Struct):
    uuid: str
    updated_ts: float
    topic: str | None = None
    categories: list[str] | None = None
    keywords: list[str] | None = None
    languages: dict[str, float] | None = None
    countries: dict[str, float] | None = None
    sentiment: list[float | None] | None = None
    sentiment_timestamps: list[float | None] | None = None
    updates: list[msgspec.Raw] | None = None


class _Update(msgspec.Struct):
    uuid: str
    story_update_ts: float
    headline: str | None = None
    story: str | None = None
    n_articles: int | None = None


_limits = msgspec.json.Decoder(_Limits)
_search = msgspec.json.Decoder(_Search)
_stories = msgspec.json.Decoder(_Stories)
_article = msgspec.json.Decoder(_Article)
_story = msgspec.json.Decoder(_Story)
_update = msgspec.json.Decoder(_Update)


@dataclass(slots=True)
class AskNewsLimits:
    """Limits of the account as learnt in this run.

    `size`: page size. `limits`: those of the plan once they are known. `rest`: seconds to wait
    before the next request. `refused`: the failure if the site rejected the key, or the plan is
    used up; every partition then raises it without a request.
    """

    size: int
    limits: HostLimits = INITIAL_LIMITS
    rest: float = 0.0
    refused: Auth | None = None

    def request_limits(self, base_url: str) -> Generator[SourceRequest, RawPage, None]:
        """Request the limits of the plan. Failures are not raised but lower the limits."""
        try:
            raw = yield SourceRequest(f"{base_url}/profiles/me/limits")
            self.limits, self.rest = _limits_of(odds.decode(raw, _limits))
        except Auth as refused:
            self.limits, self.refused = FREE_PLAN_LIMITS, refused
        except Failure:  # without a response, use limits that every plan allows
            self.limits = FREE_PLAN_LIMITS


@dataclass
class AskNewsNews:
    """Articles that mention the entities.

    `since`: crawl time after which articles are requested, by entity. `max_pages`: per entity.
    `hours_back`: how far back articles are searched. `historical`: the same, by entity, where it is
    more than 48 hours. `gaps`: the stretch since the last poll that is not requested, by entity.
    `podcasts`: whether podcasts are wanted. `pace`: limits learnt during the run.
    """

    catalogue_cost: ClassVar[int] = 0  # the limits of the plan are free

    base_url: str
    entities: Sequence[str] = ()
    since: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    max_pages: int = 5
    hours_back: int = 48
    historical: Mapping[str, int] = field(default_factory=dict[str, int])
    gaps: Mapping[str, Stretch] = field(default_factory=dict[str, Stretch])
    podcasts: bool = False
    name: str = NEWS
    pace: AskNewsLimits = field(default_factory=lambda: AskNewsLimits(NEWS_PAGE_SIZE))

    @property
    def limits(self) -> HostLimits:
        """The limits of the plan once they are known."""
        return self.pace.limits

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return one partition per entity, after requesting the limits of the plan."""
        yield from self.pace.request_limits(self.base_url)
        return [Partition(entity) for entity in self.entities]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:
        """Request the newest articles of the entity, page by page, back to its `since`.

        Incomplete if there are more than `max_pages`. Raises Auth and RateLimited.
        """
        hours_back = self.historical.get(part.key)
        asked: QueryParams = [
            ("query", part.key),
            ("method", "kw"),
            ("return_type", "dicts"),
            ("time_filter", "crawl_date"),
            ("sort_by", "pub_date"),
            ("podcasts", "include" if self.podcasts else "none"),
            ("historical", str(hours_back is not None)),
            ("hours_back", str(hours_back or self.hours_back)),
            *_since(self.since.get(part.key)),
        ]
        pagination = _Pagination(
            f"{self.base_url}/news/search", asked, "n_articles", self.pace, self.max_pages
        )
        end = yield from pagination.follow(_search_page)
        return _with_gap(end, self.gaps.get(part.key))

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the articles of a search page. Raises Schema, ApiError or Blocked."""
        found = odds.decode(raw, _search).as_dicts or ()
        return [_article_of(each, _entity(raw)) for each in found]


@dataclass
class AskNewsStories:
    """Stories about the entities, with their updates and sentiment. Otherwise as AskNewsNews.

    `max_updates`: updates per story.
    """

    catalogue_cost: ClassVar[int] = 0  # the limits of the plan are free
    page_cost: ClassVar[int] = 10

    base_url: str
    entities: Sequence[str] = ()
    since: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    max_pages: int = 5
    max_updates: int = 10
    gaps: Mapping[str, Stretch] = field(default_factory=dict[str, Stretch])
    name: str = STORIES
    pace: AskNewsLimits = field(default_factory=lambda: AskNewsLimits(STORIES_PAGE_SIZE))

    @property
    def limits(self) -> HostLimits:
        """The limits of the plan once they are known."""
        return self.pace.limits

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return one partition per entity, after requesting the limits of the plan."""
        yield from self.pace.request_limits(self.base_url)
        return [Partition(entity) for entity in self.entities]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:
        """Request the newest stories of the entity, page by page, back to its `since`.

        Incomplete if there are more than `max_pages`. Raises Auth and RateLimited.
        """
        asked: QueryParams = [
            ("query", part.key),
            ("method", "kw"),
            ("sort_by", "published"),
            ("sort_type", "desc"),
            ("expand_updates", "True"),
            ("max_updates", str(self.max_updates)),
            *_since(self.since.get(part.key)),
        ]
        pagination = _Pagination(
            f"{self.base_url}/stories", asked, "limit", self.pace, self.max_pages
        )
        end = yield from pagination.follow(_stories_page)
        return _with_gap(end, self.gaps.get(part.key))

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the stories of a page. Raises Schema, ApiError or Blocked."""
        found = odds.decode(raw, _stories).stories
        return [record for each in found for record in _story_of(each, _entity(raw))]


def _limits_of(wire: _Limits) -> tuple[HostLimits, float]:
    numbers = (wire.request_rate, wire.request_rate_capacity, wire.concurrency_limit)
    if not all(math.isfinite(number) for number in numbers) or wire.request_rate <= 0:
        return FREE_PLAN_LIMITS, 0.0
    burst = wire.request_rate_capacity
    if wire.request_rate_remaining is not None:
        burst = min(burst, wire.request_rate_remaining)  # the account may be shared
    limits = HostLimits(
        rate=min(wire.request_rate * RATE_MARGIN, MAX_LIMITS.rate),
        burst=int(_between(1, burst, MAX_LIMITS.burst)),
        concurrency=int(_between(1, wire.concurrency_limit, MAX_LIMITS.concurrency)),
    )
    return limits, _between(0, wire.retry_after or 0, MAX_REST_SECONDS)


def _between(low: float, value: float, high: float) -> float:
    return max(low, min(value, high))


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


def _search_page(raw: RawPage) -> tuple[int, Offset]:
    page = odds.decode(raw, _search)
    return len(page.as_dicts or ()), page.offset


def _stories_page(raw: RawPage) -> tuple[int, Offset]:
    page = odds.decode(raw, _stories)
    return len(page.stories), page.offset


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
    translated = kind(
        message,
        status=failure.status,
        url=failure.url,
        retry=failure.retry,
        retry_in=failure.retry_in,
    )
    translated.attempts = failure.attempts
    return translated


def _entity(raw: RawPage) -> str:
    return "" if raw.partition is None else raw.partition.key


def _article_of(each: msgspec.Raw, entity: str) -> Record:
    try:
        return _read_article(_article.decode(each), entity)
    except DECODE_ERRORS as error:
        return Rejected(str(error), bytes(each), odds.record_id(each, "article_id"))


def _read_article(wire: _Article, entity: str) -> Article:
    url = odds.clean_text(wire.article_url)
    return Article(
        provider=PROVIDER,
        article_id=odds.clean_text(wire.article_id) or _id_from_url(url),
        entity=entity,
        url=url,
        title=odds.required_text(odds.clean_text(wire.eng_title) or wire.title, "title"),
        summary=_body_text(wire.summary),
        source=odds.clean_text(wire.source_id),
        domain=odds.clean_text(wire.domain_url),
        language=odds.clean_text(wire.language),
        country=odds.clean_text(wire.country),
        published_at=_published(wire.pub_date),
        sentiment=_sentiment(wire.sentiment),
        categories=_as_tuple(wire.classification),
        keywords=_as_tuple(wire.keywords),
        entities=_entities_by_kind(wire.entities or {}),
    )


def _id_from_url(url: str) -> str:
    if not url:
        raise ValueError("no article_id and no article_url")
    return f"url:{hashlib.sha256(url.encode()).hexdigest()}"


def _body_text(text: str | None) -> str:
    return (text or "").replace("\0", " ").strip()


def _published(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return _plausible(read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC))


def _instant(seconds: float) -> datetime:
    return _plausible(_EPOCH + timedelta(seconds=seconds))


def _plausible(instant: datetime) -> datetime:
    if instant.year not in _YEARS:
        raise ValueError(f"implausible year {instant.year}")
    return instant


def _sentiment(value: float | None) -> int | None:
    return None if value is None else round(_checked_sentiment(value))


def _checked_sentiment(value: float) -> float:
    if not math.isfinite(value) or abs(value) > _MAX_SENTIMENT:
        raise ValueError(f"{value} is not a valid sentiment")
    return value


def _as_tuple(value: list[str] | str | None) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value or []
    return tuple(dict.fromkeys(text for text in map(odds.clean_text, given) if text))


def _entities_by_kind(entities: Mapping[str, list[str] | None]) -> dict[str, tuple[str, ...]]:
    named = {odds.clean_text(kind): _as_tuple(names) for kind, names in entities.items()}
    return {kind: names for kind, names in named.items() if kind and names}


def _story_of(each: msgspec.Raw, entity: str) -> Iterator[Record]:
    faults: list[str] = []
    uuid = odds.record_id(each, "uuid")
    try:
        yield _read_story(_story.decode(each), entity, faults)
    except DECODE_ERRORS as error:
        faults = [str(error)]
    if faults:
        yield Rejected("; ".join(faults[:_MAX_FAULTS]), bytes(each), uuid)


def _read_story(wire: _Story, entity: str, faults: list[str]) -> Story:
    return Story(
        provider=PROVIDER,
        story_uuid=odds.required_text(wire.uuid, "uuid"),
        entity=entity,
        topic=odds.clean_text(wire.topic),
        told_at=_instant(wire.updated_ts),
        categories=_as_tuple(wire.categories),
        keywords=_as_tuple(wire.keywords),
        languages=_counted(wire.languages or {}),
        countries=_counted(wire.countries or {}),
        updates=_updates(wire.updates or (), faults),
        sentiment=_points(wire.sentiment or (), wire.sentiment_timestamps or (), faults),
    )


def _counted(counts: Mapping[str, float]) -> dict[str, int]:
    return {
        odds.clean_text(name): round(_between(0, n, _MAX_ARTICLES)) for name, n in counts.items()
    }


def _updates(given: Iterable[msgspec.Raw], faults: list[str]) -> tuple[StoryUpdate, ...]:
    kept: dict[str, StoryUpdate] = {}
    for each in given:
        try:
            update = _read_update(_update.decode(each))
        except DECODE_ERRORS as error:
            faults.append(f"update: {error}")
            continue
        kept.setdefault(update.update_uuid, update)
    return tuple(kept.values())


def _read_update(wire: _Update) -> StoryUpdate:
    articles = wire.n_articles
    if articles is not None and not 0 <= articles <= _MAX_ARTICLES:
        raise ValueError(f"n_articles {articles} is out of range")
    return StoryUpdate(
        update_uuid=odds.required_text(wire.uuid, "uuid"),
        at=_instant(wire.story_update_ts),
        headline=odds.clean_text(wire.headline),
        text=_body_text(wire.story),
        articles=articles,
    )


def _points(
    values: Iterable[float | None], stamps: Iterable[float | None], faults: list[str]
) -> tuple[SentimentPoint, ...]:
    """Return the points with both a value and a timestamp; the last one for equal timestamps."""
    kept: dict[datetime, SentimentPoint] = {}
    for value, stamp in zip(values, stamps, strict=False):
        if value is None or stamp is None:
            continue
        try:
            point = SentimentPoint(_instant(stamp), _checked_sentiment(value))
        except DECODE_ERRORS as error:
            faults.append(f"sentiment: {error}")
            continue
        kept[point.at] = point
    return tuple(kept.values())
