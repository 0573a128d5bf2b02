"""AskNews' articles and stories: their JSON, and the records read from it."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from app.core.records import Article, Record, Rejected, SentimentPoint, Story, StoryUpdate
from app.sources.sites import odds
from app.sources.sites.odds import DECODE_ERRORS

PROVIDER = "asknews"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1990, 2100)
_MAX_SENTIMENT = 100
_MAX_ARTICLES = 2**31 - 1
_MAX_FAULTS = 5


_Texts = list[str | None] | None


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
    classification: _Texts | str = None
    keywords: _Texts = None
    entities: dict[str, _Texts] | None = None


class _Story(msgspec.Struct):
    uuid: str
    updated_ts: float
    topic: str | None = None
    categories: _Texts = None
    keywords: _Texts = None
    languages: dict[str, float | None] | None = None
    countries: dict[str, float | None] | None = None
    sentiment: list[float | None] | None = None
    sentiment_timestamps: list[float | None] | None = None
    updates: list[msgspec.Raw] | None = None


class _Update(msgspec.Struct):
    uuid: str
    story_update_ts: float
    headline: str | None = None
    story: str | None = None
    n_articles: int | None = None


_article = msgspec.json.Decoder(_Article)
_story = msgspec.json.Decoder(_Story)
_update = msgspec.json.Decoder(_Update)


def between(low: float, value: float, high: float) -> float:
    return max(low, min(value, high))


def article_of(each: msgspec.Raw, entity: str) -> Record:
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
        sentiment=None if wire.sentiment is None else round(_checked_sentiment(wire.sentiment)),
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


def _checked_sentiment(value: float) -> float:
    if not math.isfinite(value) or abs(value) > _MAX_SENTIMENT:
        raise ValueError(f"{value} is not a valid sentiment")
    return value


def _as_tuple(value: _Texts | str) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value or []
    return tuple(dict.fromkeys(text for text in map(odds.clean_text, given) if text))


def _entities_by_kind(entities: Mapping[str, _Texts]) -> dict[str, tuple[str, ...]]:
    named = {odds.clean_text(kind): _as_tuple(names) for kind, names in entities.items()}
    return {kind: names for kind, names in named.items() if kind and names}


def story_of(each: msgspec.Raw, entity: str) -> Iterator[Record]:
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


def _counted(counts: Mapping[str, float | None]) -> dict[str, int]:
    return {
        odds.clean_text(name): round(between(0, n, _MAX_ARTICLES))
        for name, n in counts.items()
        if n is not None
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
