"""Typed rows that sources yield and stores keep: the house shape, whatever the wire looked like."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

from app.words import Market, Outcome

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, slots=True)
class OddsPrice:
    """The decimal odds of one outcome. `line` is the goals line of over/under, else None.

    `active` is false while the site shows the price but takes no bets on it.
    """

    market: Market
    outcome: Outcome
    line: Decimal | None
    price: Decimal
    active: bool = True


@dataclass(frozen=True, slots=True)
class OddsEvent:
    """One football match at one site, with its prices.

    (`platform`, `platform_event_id`) is unique. `sportradar_id` is digits only, and joins sites.
    `kickoff` is UTC. No two prices share (market, line, outcome).
    `complete` is false if some price of it could not be read: what is missing is then not gone.
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
    `entities` are those the article names, by kind.
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
    """The mood of a story at `at` (UTC), from -1 to 1."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Story:
    """One story, as it was found under one tracked `entity`.

    (`provider`, `story_uuid`) is unique. `told_at` is when it last moved, UTC. `languages` and
    `countries` say how many articles there are of each. No two updates share their uuid, no two
    points their instant.
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
    """One record of no kind of its own. `key` tells it from the others of its source.

    Text in it is text that Postgres takes: no NUL, no half of a surrogate pair.
    """

    source: str
    key: str
    data: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be read, kept aside with its reason. `data` is it as it came."""

    reason: str
    data: bytes
    record_id: str | None = None


Record = OddsEvent | Article | Story | Item | Rejected
