"""The typed records that sources yield and the store writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

from app.core.enums import Market, MarketOutcome, StoreMode

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


class _PriceText:
    """What an OddsPrice has besides its fields, which are compared, shown and encoded."""

    __slots__ = ("text",)

    text: str


@dataclass(frozen=True, slots=True)
class OddsPrice(_PriceText):
    """The decimal odds of one outcome. `line` is the goals line of over/under, else None.

    `active` is false while the site shows the price but takes no bets on it. `price` is None if it
    is suspended and the site blanks the price meanwhile: the stored price then stays. `text`: all
    of it, separated by commas, for digests and statements; made once, as sources cache prices.
    """

    market: Market
    outcome: MarketOutcome
    line: Decimal | None
    price: Decimal | None
    active: bool = True

    def __post_init__(self) -> None:
        line = "" if self.line is None else self.line
        price = "" if self.price is None else self.price
        text = f"{self.market},{line},{self.outcome},{price},{'t' if self.active else 'f'}"
        object.__setattr__(self, "text", text)


@dataclass(frozen=True, slots=True)
class OddsEvent:
    """One football match at one site, with its prices.

    (`platform`, `platform_event_id`) is unique. `sportradar_id` is digits only, and joins sites.
    `kickoff` is UTC. No two prices share (market, line, outcome).
    `complete` is false if a price could not be parsed: missing prices are then not withdrawn.
    """

    platform: str
    platform_event_id: str
    sportradar_id: str | None
    country: str
    competition: str
    competition_id: str | None
    home: str
    away: str
    kickoff: datetime
    prices: tuple[OddsPrice, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Article:
    """One article, as it was found under one tracked `entity`.

    (`provider`, `article_id`) is unique. `published_at` is UTC. `sentiment` goes from -1 to 1.
    `entities` are the names in the article, by kind.
    """

    provider: str
    article_id: str
    entity: str
    url: str
    title: str
    summary: str
    source: str
    domain: str
    language: str
    country: str
    published_at: datetime
    sentiment: int | None
    categories: tuple[str, ...]
    keywords: tuple[str, ...]
    entities: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class StoryUpdate:
    """What was new in a story at `at` (UTC). `update_uuid` is unique within its story."""

    update_uuid: str
    at: datetime
    headline: str
    text: str
    articles: int | None


@dataclass(frozen=True, slots=True)
class SentimentPoint:
    """The sentiment of a story at `at` (UTC), from -1 to 1."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Story:
    """One story, as it was found under one tracked `entity`.

    (`provider`, `story_uuid`) is unique. `told_at` is the time of its last update, UTC.
    `languages` and `countries` count its articles by each. Update uuids are unique, and so are the
    instants of sentiment points.
    """

    provider: str
    story_uuid: str
    entity: str
    topic: str
    told_at: datetime
    categories: tuple[str, ...]
    keywords: tuple[str, ...]
    languages: Mapping[str, int]
    countries: Mapping[str, int]
    updates: tuple[StoryUpdate, ...]
    sentiment: tuple[SentimentPoint, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A generic record. `key` is unique within its source.

    `mode`: how it is stored if the key exists. `ignore`: members of `data` whose changes do not
    count. `partition`: the key of the partition where it was found.
    Its text is valid in Postgres: no NUL, no lone surrogates.
    """

    source: str
    key: str
    data: Mapping[str, JSON]
    mode: StoreMode = StoreMode.UPSERT
    ignore: tuple[str, ...] = ()
    partition: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be parsed, stored with the reason. `data`: the original bytes."""

    reason: str
    data: bytes
    record_id: str | None = None


Record = OddsEvent | Article | Story | Item | Rejected
