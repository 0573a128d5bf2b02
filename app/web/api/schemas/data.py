"""Bodies and filters of the operator's odds and news."""

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, WithJsonSchema

from app.core.enums import Market, MarketOutcome
from app.web.api.schemas.base import Instant, PageQuery, ResponseModel, SourceName, digits


def _line(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a number such as 2.5")  # noqa: TRY004 - pydantic wants this one
    return value


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError("must be a number such as 2.5")
    return value


SearchText = SourceName
MatchLimit = Annotated[int, Field(ge=1, le=50), BeforeValidator(digits)]
Line = Annotated[
    Decimal,
    Field(max_digits=8, decimal_places=3),
    AfterValidator(_finite),
    BeforeValidator(_line),
    WithJsonSchema({"type": "string", "pattern": r"^-?\d{1,4}(\.\d{1,3})?$", "examples": ["2.5"]}),
]


# Odds


class BestQuery(PageQuery):
    """Filters of matches. `since`, `until`: kick-off; by default from now on, for 14 days.

    `competition`: part of a competition's or country's name; `teams`: of a team's name.
    A page has at most 50: a match may have some hundred prices.
    """

    limit: MatchLimit = 20
    since: Instant | None = None
    until: Instant | None = None
    competition: SearchText | None = None
    teams: SearchText | None = None
    market: Market | None = None


class MatchesQuery(BestQuery):
    """Filters of matches. `format`: csv has one line for each price."""

    format: Literal["json", "csv"] = "json"


class BestQuote(ResponseModel):
    """The highest current price of an outcome, and its site."""

    platform: str
    price: str


class QuoteBody(ResponseModel):
    """The price of an outcome at a site. `stale`: not seen for two intervals of the job."""

    platform: str
    price: str
    active: bool
    stale: bool
    seen_at: AwareDatetime
    changed_at: AwareDatetime


class OutcomeBody(ResponseModel):
    """An outcome with its quotes. `best`: null if no quote is current."""

    outcome: MarketOutcome
    best: BestQuote | None
    quotes: list[QuoteBody]


class MarketBody(ResponseModel):
    """A market of a match. Margins are shares: 0.05 is five per cent.

    `margins`: of each site; `best_margin`: of the best prices, below zero if they surely win.
    """

    market: Market
    line: str | None
    margins: dict[str, str]
    best_margin: str | None
    outcomes: list[OutcomeBody]


class MatchSummary(ResponseModel):
    """A match. `match`: its Sportradar id, or platform/event id."""

    match: str
    kickoff: AwareDatetime
    country: str
    competition: str
    home: str
    away: str


class MatchBody(MatchSummary):
    """A match with the prices of every site.

    `swapped`: sites that have home and away the other way round, which are not compared.
    """

    platforms: list[str]
    swapped: list[str]
    markets: list[MarketBody]


class Matches(ResponseModel):
    """A page of matches that have a price, the next kick-off first."""

    matches: list[MatchBody]
    next_cursor: str | None


class BestOutcome(ResponseModel):
    """An outcome with its best current price; null if there is none."""

    outcome: MarketOutcome
    best: BestQuote | None


class BestMarket(ResponseModel):
    """The best prices of a market, and their margin."""

    market: Market
    line: str | None
    margin: str | None
    outcomes: list[BestOutcome]


class BestMatch(MatchSummary):
    """A match with the best current prices."""

    markets: list[BestMarket]


class BestMatches(ResponseModel):
    """A page of matches that have a price, the next kick-off first."""

    matches: list[BestMatch]
    next_cursor: str | None


class PriceQuery(PageQuery):
    """Which price of the match. `line`: of goals, such as 2.5, in markets that have one."""

    market: Market = Market.MATCH_RESULT
    outcome: MarketOutcome = MarketOutcome.HOME
    line: Line | None = None


class SiteMatch(ResponseModel):
    """The match at one site."""

    event_id: int
    platform: str
    kickoff: AwareDatetime
    home: str
    away: str


class PriceMove(ResponseModel):
    """One change of the price at a site. `price`: null if it was withdrawn."""

    event_id: int
    observed_at: AwareDatetime
    price: str | None
    active: bool
    run_id: UUID


class PriceHistory(ResponseModel):
    """A page of the changes of one price at every site, newest first."""

    events: list[SiteMatch]
    moves: list[PriceMove]
    next_cursor: str | None


# News


class NewsQuery(PageQuery):
    """Filters of articles or stories. `entity`: as it is tracked; `text`: part of the title.

    `since`, `until`: of the publication, or of the last update of a story. A page may be short, or
    empty, before the last one: only the last one has no `next_cursor`.
    """

    entity: SearchText | None = None
    text: SearchText | None = None
    since: Instant | None = None
    until: Instant | None = None


class ArticleBody(ResponseModel):
    """An article. `entities`: the tracked ones it was found under. `sentiment`: -1, 0 or 1."""

    id: int
    url: str
    title: str
    summary: str
    source: str
    domain: str
    language: str
    country: str
    published_at: AwareDatetime
    sentiment: int | None
    categories: list[str]
    keywords: list[str]
    entities: list[str]
    run_id: UUID


class Articles(ResponseModel):
    """A page of articles, the last published first."""

    articles: list[ArticleBody]
    next_cursor: str | None


class StorySummary(ResponseModel):
    """A story. `told_at`: when it was last updated. `sentiment`: the last value, from -1 to 1."""

    id: int
    topic: str
    told_at: AwareDatetime
    categories: list[str]
    keywords: list[str]
    entities: list[str]
    sentiment: float | None
    run_id: UUID


class Stories(ResponseModel):
    """A page of stories, the last updated first."""

    stories: list[StorySummary]
    next_cursor: str | None


class StoryUpdateBody(ResponseModel):
    """One update of a story. `articles`: how many there were."""

    at: AwareDatetime
    headline: str
    text: str
    articles: int | None
    run_id: UUID


class SentimentValue(ResponseModel):
    """The sentiment of a story at an instant."""

    at: AwareDatetime
    value: float
    run_id: UUID


class StoryBody(StorySummary):
    """A story with its newest updates, newest first, and its sentiment, in order of time."""

    updates: list[StoryUpdateBody]
    sentiments: list[SentimentValue]
