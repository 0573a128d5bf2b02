"""AskNews: articles and stories about tracked entities, each entity a partition of its own.

Learnt of the site:
- `profiles/me/limits` costs nothing and says how fast one may ask. It needs a scope of its own, so
  a good key may be refused there: then the pace is the free plan's, one call in ten seconds.
- An error is `{"code", "detail"}`; the code is the HTTP status and three digits. 429000 is too
  often, 429001 too many at once, 403xxx a plan that does not allow it or is used up.
- A page holds at most 101 articles, on the free plan 10: a plan that refuses the larger page is
  asked for the smaller one, and the rest of the run goes on with that. One that cuts it short in
  silence is no trouble, for only the offset says where the next page begins.
- The offset is a number, a uuid or null. Null, one seen before and an empty page are the end;
  fewer records than the smallest page are, too, which saves a call.
- Lists are repeated keys, booleans are `True` and `False`.
- `start_timestamp` goes by the date of crawling, if asked to: a publisher's own date may be any.
- `classification` is a list or a string. The rest of an article changes with the site's versions,
  so nothing is looked at but what is stored.
- `sentiment[i]` of a story belongs to `sentiment_timestamps[i]`. The lists may differ in length:
  what has no partner is left out, and comes when it has one.
"""

import hashlib
import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from app.errors import Auth, Failure, Incomplete, RateLimited
from app.messages import Limits, Partition, Raw, Request
from app.records import Article, Record, Rejected, SentimentPoint, Story, StoryUpdate
from app.sources import odds
from app.sources.odds import UNREADABLE

PROVIDER = "asknews"
NEWS = "asknews_news"
STORIES = "asknews_stories"

ASKING_LIMITS = Limits(rate=1, burst=1, concurrency=1)
CONSERVATIVE = Limits(rate=0.1, burst=1, concurrency=1)
FASTEST = Limits(rate=50, burst=50, concurrency=4)
NEWS_PAGE_SIZE = 100
STORIES_PAGE_SIZE = 50  # what the provider's own client asks for
SMALLEST_PAGE = 10
MARGIN = 0.9  # of the rate that is allowed: what leaves us evenly does not arrive so
LONGEST_REST = 30.0

_REFUSED_SIZE = frozenset({403, 422})
_FORBIDDEN = 403
_TOO_OFTEN = 429
_TOO_MANY_AT_ONCE = "429001"
_CODE = re.compile(r'"code":\s*(\d{6})')
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1990, 2100)
_MOST_SENTIMENT = 100
_MOST_ARTICLES = 2**31 - 1
_FAULTS_TOLD = 5

Asked = list[tuple[str, str]]
Offset = int | str | None
Read = Callable[[Raw], tuple[int, Offset]]


class _Limits(msgspec.Struct):
    request_rate: float
    request_rate_capacity: float = 1
    request_rate_remaining: float | None = None
    retry_after: float | None = None
    concurrency_limit: float = 1


class _Search(msgspec.Struct):
    as_dicts: list[msgspec.Raw] | None = None
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
class Pace:
    """What the site has told of itself in this run.

    `limits` are the plan's once they are known, `size` that of a page. `rest`: seconds to leave it
    alone first. `refused`: it does not know us, so that nothing need be asked at all.
    """

    size: int
    limits: Limits = ASKING_LIMITS
    rest: float = 0.0
    refused: Auth | None = None

    def ask(self, base_url: str) -> Generator[Request, Raw, None]:
        try:
            raw = yield Request(f"{base_url}/profiles/me/limits")
            self.limits, self.rest = _limits_of(odds.decode(raw, _limits))
        except Auth as refused:
            self.limits, self.refused = CONSERVATIVE, refused
        except Failure:  # where it does not answer, the pace is one that every plan allows
            self.limits = CONSERVATIVE


@dataclass
class AskNewsNews:
    """Articles that name the entities. `since` is per entity; `until_page` bounds each.

    It learns while it asks: see Pace.
    """

    base_url: str
    entities: Sequence[str] = ()
    since: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    max_pages: int = 5
    hours_back: int = 48
    name: str = NEWS
    pace: Pace = field(default_factory=lambda: Pace(NEWS_PAGE_SIZE))

    @property
    def limits(self) -> Limits:
        """Those of the plan, once it has told them."""
        return self.pace.limits

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """One for each entity, after asking how fast to go on."""
        yield from self.pace.ask(self.base_url)
        return [Partition(entity) for entity in self.entities]

    def pages(self, part: Partition) -> Generator[Request, Raw, Incomplete | None]:
        """Ask for the newest articles of the entity, page by page, back to its `since`."""
        asked: Asked = [
            ("query", part.key),
            ("method", "kw"),
            ("return_type", "dicts"),
            ("time_filter", "crawl_date"),
            ("historical", "False"),
            ("hours_back", str(self.hours_back)),
            *_since(self.since.get(part.key)),
        ]
        way = _Way(f"{self.base_url}/news/search", asked, "n_articles", self.pace, self.max_pages)
        return (yield from way.follow(_search_page))

    def parse(self, raw: Raw) -> Iterable[Record]:
        """Read a page of a search. Raises Schema or Blocked if it is none."""
        found = odds.decode(raw, _search).as_dicts or ()
        return [_article_of(each, _entity(raw)) for each in found]


@dataclass
class AskNewsStories:
    """Stories about the entities, with their updates and moods. Otherwise as AskNewsNews."""

    base_url: str
    entities: Sequence[str] = ()
    since: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    max_pages: int = 5
    max_updates: int = 10
    name: str = STORIES
    pace: Pace = field(default_factory=lambda: Pace(STORIES_PAGE_SIZE))

    @property
    def limits(self) -> Limits:
        """Those of the plan, once it has told them."""
        return self.pace.limits

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """One for each entity, after asking how fast to go on."""
        yield from self.pace.ask(self.base_url)
        return [Partition(entity) for entity in self.entities]

    def pages(self, part: Partition) -> Generator[Request, Raw, Incomplete | None]:
        """Ask for the stories of the entity that moved last, page by page, back to its `since`."""
        asked: Asked = [
            ("query", part.key),
            ("method", "kw"),
            ("sort_by", "published"),
            ("sort_type", "desc"),
            ("expand_updates", "True"),
            ("max_updates", str(self.max_updates)),
            *_since(self.since.get(part.key)),
        ]
        way = _Way(f"{self.base_url}/stories", asked, "limit", self.pace, self.max_pages)
        return (yield from way.follow(_stories_page))

    def parse(self, raw: Raw) -> Iterable[Record]:
        """Read a page of stories. Raises Schema or Blocked if it is none."""
        found = odds.decode(raw, _stories).stories
        return [record for each in found for record in _story_of(each, _entity(raw))]


def _limits_of(told: _Limits) -> tuple[Limits, float]:
    numbers = (told.request_rate, told.request_rate_capacity, told.concurrency_limit)
    if not all(math.isfinite(number) for number in numbers) or told.request_rate <= 0:
        return CONSERVATIVE, 0.0
    left = told.request_rate_capacity
    if told.request_rate_remaining is not None:
        left = min(left, told.request_rate_remaining)  # others may share the account
    limits = Limits(
        rate=min(told.request_rate * MARGIN, FASTEST.rate),
        burst=int(_between(1, left, FASTEST.burst)),
        concurrency=int(_between(1, told.concurrency_limit, FASTEST.concurrency)),
    )
    return limits, _between(0, told.retry_after or 0, LONGEST_REST)


def _between(least: float, value: float, most: float) -> float:
    return max(least, min(value, most))


def _since(since: datetime | None) -> Asked:
    return [] if since is None else [("start_timestamp", str(math.floor(since.timestamp())))]


def _search_page(raw: Raw) -> tuple[int, Offset]:
    page = odds.decode(raw, _search)
    return len(page.as_dicts or ()), page.offset


def _stories_page(raw: Raw) -> tuple[int, Offset]:
    page = odds.decode(raw, _stories)
    return len(page.stories), page.offset


@dataclass(slots=True)
class _Way:
    """The way through one entity's pages."""

    url: str
    asked: Asked
    size_name: str
    pace: Pace
    max_pages: int

    def follow(self, read: Read) -> Generator[Request, Raw, Incomplete | None]:
        offset: Offset = None
        met: set[Offset] = {None, 0, "0", ""}
        for _ in range(self.max_pages):
            count, offset = read((yield from self._page(offset)))
            if count < min(self.pace.size, SMALLEST_PAGE) or offset in met:
                return None
            met.add(offset)
        return Incomplete(
            f"more than {self.max_pages} pages since the last poll; the older ones are left out"
        )

    def _page(self, offset: Offset) -> Generator[Request, Raw, Raw]:
        size = self.pace.size
        if self.pace.refused is not None:
            raise _said(Auth, self.pace.refused, str(self.pace.refused))
        try:
            return (yield self._request(offset, size))
        except Failure as failure:
            if failure.status not in _REFUSED_SIZE or size <= SMALLEST_PAGE:
                raise explained(failure) from failure.__cause__
        raw = yield from self._smaller(offset)
        self.pace.size = SMALLEST_PAGE
        return raw

    def _smaller(self, offset: Offset) -> Generator[Request, Raw, Raw]:
        try:
            return (yield self._request(offset, SMALLEST_PAGE))
        except Failure as failure:
            raise explained(failure) from failure.__cause__

    def _request(self, offset: Offset, size: int) -> Request:
        start: Asked = [] if offset is None else [("offset", str(offset))]
        rest, self.pace.rest = self.pace.rest, 0.0
        params = (*self.asked, (self.size_name, str(size)), *start)
        return Request(self.url, params=params, wait=rest)


def explained(failure: Failure) -> Failure:
    """The same failure in the site's own terms: which limit, whose fault."""
    code = _CODE.search(str(failure))
    number = code[1] if code else str(failure.status)
    if failure.status == _FORBIDDEN:
        return _said(
            Auth, failure, f"the AskNews plan does not allow this or is used up ({number})"
        )
    if failure.status == _TOO_OFTEN and number == _TOO_MANY_AT_ONCE:
        return _said(RateLimited, failure, f"too many at once ({number}, concurrency): {failure}")
    if failure.status == _TOO_OFTEN:
        return _said(RateLimited, failure, f"too many requests ({number}, rate): {failure}")
    return failure


def _said(kind: type[Failure], failure: Failure, message: str) -> Failure:
    said = kind(
        message,
        status=failure.status,
        url=failure.url,
        retry=failure.retry,
        retry_in=failure.retry_in,
    )
    said.attempts = failure.attempts
    return said


def _entity(raw: Raw) -> str:
    return "" if raw.partition is None else raw.partition.key


def _article_of(each: msgspec.Raw, entity: str) -> Record:
    try:
        return _read_article(_article.decode(each), entity)
    except UNREADABLE as error:
        return Rejected(str(error), bytes(each), odds.record_id(each, "article_id"))


def _read_article(wire: _Article, entity: str) -> Article:
    url = odds.text(wire.article_url)
    return Article(
        provider=PROVIDER,
        article_id=odds.text(wire.article_id) or _of_url(url),
        entity=entity,
        url=url,
        title=odds.needed(odds.text(wire.eng_title) or wire.title, "title"),
        summary=_prose(wire.summary),
        source=odds.text(wire.source_id),
        domain=odds.text(wire.domain_url),
        language=odds.text(wire.language),
        country=odds.text(wire.country),
        published_at=_published(wire.pub_date),
        sentiment=_sentiment(wire.sentiment),
        categories=_listed(wire.classification),
        keywords=_listed(wire.keywords),
        entities=_by_kind(wire.entities or {}),
    )


def _of_url(url: str) -> str:
    if not url:
        raise ValueError("neither an article_id nor an article_url")
    return f"url:{hashlib.sha256(url.encode()).hexdigest()}"


def _prose(text: str | None) -> str:
    return (text or "").replace("\0", " ").strip()


def _published(written: str) -> datetime:
    read = datetime.fromisoformat(written)
    return _plausible(read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC))


def _instant(seconds: float) -> datetime:
    return _plausible(_EPOCH + timedelta(seconds=seconds))


def _plausible(instant: datetime) -> datetime:
    if instant.year not in _YEARS:
        raise ValueError(f"an instant in the year {instant.year}")
    return instant


def _sentiment(value: float | None) -> int | None:
    return None if value is None else round(_mood(value))


def _mood(value: float) -> float:
    if not math.isfinite(value) or abs(value) > _MOST_SENTIMENT:
        raise ValueError(f"a sentiment of {value}")
    return value


def _listed(words: list[str] | str | None) -> tuple[str, ...]:
    given = [words] if isinstance(words, str) else words or []
    return tuple(dict.fromkeys(word for word in map(odds.text, given) if word))


def _by_kind(entities: Mapping[str, list[str] | None]) -> dict[str, tuple[str, ...]]:
    named = {odds.text(kind): _listed(names) for kind, names in entities.items()}
    return {kind: names for kind, names in named.items() if kind and names}


def _story_of(each: msgspec.Raw, entity: str) -> Iterator[Record]:
    faults: list[str] = []
    uuid = odds.record_id(each, "uuid")
    try:
        yield _read_story(_story.decode(each), entity, faults)
    except UNREADABLE as error:
        faults = [str(error)]
    if faults:
        yield Rejected("; ".join(faults[:_FAULTS_TOLD]), bytes(each), uuid)


def _read_story(wire: _Story, entity: str, faults: list[str]) -> Story:
    return Story(
        provider=PROVIDER,
        story_uuid=odds.needed(wire.uuid, "uuid"),
        entity=entity,
        topic=odds.text(wire.topic),
        told_at=_instant(wire.updated_ts),
        categories=_listed(wire.categories),
        keywords=_listed(wire.keywords),
        languages=_counted(wire.languages or {}),
        countries=_counted(wire.countries or {}),
        updates=_updates(wire.updates or (), faults),
        sentiment=_points(wire.sentiment or (), wire.sentiment_timestamps or (), faults),
    )


def _counted(counts: Mapping[str, float]) -> dict[str, int]:
    return {odds.text(name): round(_between(0, n, _MOST_ARTICLES)) for name, n in counts.items()}


def _updates(given: Iterable[msgspec.Raw], faults: list[str]) -> tuple[StoryUpdate, ...]:
    kept: dict[str, StoryUpdate] = {}
    for each in given:
        try:
            update = _read_update(_update.decode(each))
        except UNREADABLE as error:
            faults.append(f"update: {error}")
            continue
        kept.setdefault(update.update_uuid, update)
    return tuple(kept.values())


def _read_update(wire: _Update) -> StoryUpdate:
    articles = wire.n_articles
    if articles is not None and not 0 <= articles <= _MOST_ARTICLES:
        raise ValueError(f"n_articles {articles} is no number of articles")
    return StoryUpdate(
        update_uuid=odds.needed(wire.uuid, "uuid"),
        at=_instant(wire.story_update_ts),
        headline=odds.text(wire.headline),
        text=_prose(wire.story),
        articles=articles,
    )


def _points(
    values: Iterable[float | None], stamps: Iterable[float | None], faults: list[str]
) -> tuple[SentimentPoint, ...]:
    """What has both a value and an instant; of two at one instant the later in the list."""
    kept: dict[datetime, SentimentPoint] = {}
    for value, stamp in zip(values, stamps, strict=False):
        if value is None or stamp is None:
            continue
        try:
            point = SentimentPoint(_instant(stamp), _mood(value))
        except UNREADABLE as error:
            faults.append(f"sentiment: {error}")
            continue
        kept[point.at] = point
    return tuple(kept.values())
