"""Queries that compare odds: current prices of each site, and the history of one price."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from app.core.enums import Market, MarketOutcome
from app.odds import comparison
from app.odds.comparison import Match, OddsOffer
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class MatchFilter:
    """Filter of matches: kick-off in [since, until); at most `limit`, the earliest ones.

    `competition`: a substring of the competition's or country's name, `teams` one of the teams'
    names; both case-insensitive. `after`: (kickoff, key) of the last match of the previous page.
    """

    since: datetime
    until: datetime
    competition: str | None = None
    market: Market | None = None
    limit: int = 50
    teams: str | None = None
    after: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class PickedMatch:
    """A match: its Sportradar id, or `platform/event id`, and its events at the sites."""

    key: str
    kickoff: datetime
    event_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class MatchPage:
    """Matches and the rows of their prices. `last`: the last one if more follow, or None."""

    matches: list[PickedMatch]
    prices: list[dict[str, Any]]
    last: PickedMatch | None


# A match is the events with one Sportradar id, or one event without.
PICKED = """
WITH picked AS (
  SELECT coalesce(sportradar_id, platform || '/' || platform_event_id) AS match, sportradar_id,
         CASE WHEN sportradar_id IS NULL THEN id END AS lone, min(kickoff) AS kickoff
  FROM odds_events
  WHERE kickoff >= $1 AND kickoff <= $2 AND withdrawn_at IS NULL
    AND ($3::text IS NULL OR strpos(lower(country || ' ' || competition), lower($3)) > 0)
    AND ($4::text IS NULL OR strpos(lower(home || ' - ' || away), lower($4)) > 0)
  GROUP BY 1, 2, 3
  HAVING $6::timestamptz IS NULL
      OR (min(kickoff), coalesce(sportradar_id, platform || '/' || platform_event_id)) > ($6, $7)
  ORDER BY 4, 1 LIMIT $5
)
SELECT p.match, p.kickoff, array_agg(e.id) FROM picked p CROSS JOIN LATERAL (
  SELECT id FROM odds_events WHERE sportradar_id = p.sportradar_id AND kickoff >= $1
  UNION ALL
  SELECT p.lone WHERE p.lone IS NOT NULL) e
GROUP BY 1, 2 ORDER BY 2, 1
"""

# Every price of these events, withdrawn ones too; an event without a price is one row.
# `seen_at`: the later of when the event was written and when its partition was last listed.
PRICES = """
SELECT coalesce(e.sportradar_id, e.platform || '/' || e.platform_event_id) AS match,
       e.id AS event_id, e.platform, e.country, e.competition, e.home, e.away, e.kickoff,
       p.market, p.line, p.outcome, p.price, p.active, p.changed_at, p.run_id,
       CASE WHEN e.absent_since IS NULL THEN greatest(e.seen_at, b.listed_at) ELSE e.seen_at END
         AS seen_at,
       CASE WHEN e.absent_since IS NULL AND b.listed_at > e.seen_at THEN b.run_id
            ELSE e.seen_run_id END AS seen_run_id
FROM odds_events e
LEFT JOIN odds_prices p ON p.event_id = e.id AND ($2::text IS NULL OR p.market = $2)
LEFT JOIN odds_boards b ON b.platform = e.platform AND b.partition = e.partition
WHERE e.id = ANY ($1::bigint[])
ORDER BY e.kickoff, match, e.platform, p.market, p.line, p.outcome
"""

# UNION instead of OR: each half uses an index of its own.
EVENTS = """
SELECT e.id, e.platform, e.platform_event_id, e.home, e.away, e.kickoff, e.country, e.competition,
       e.partition, e.first_seen_at, e.seen_at, e.seen_run_id, e.absent_since, e.withdrawn_at,
       e.run_id, b.listed_at, b.run_id AS listed_run_id
FROM odds_events e
LEFT JOIN odds_boards b ON b.platform = e.platform AND b.partition = e.partition
WHERE e.id IN (SELECT id FROM odds_events WHERE sportradar_id = $1
               UNION
               SELECT id FROM odds_events WHERE platform = $2 AND platform_event_id = $3)
ORDER BY e.platform, e.id
"""

# The newest of all these events together, not of each: a match is an event per site.
EVENT_CHANGES = """
SELECT event_id, what, before, after, observed_at, run_id FROM odds_event_changes
WHERE event_id = ANY ($1::bigint[]) ORDER BY observed_at DESC, id DESC LIMIT $2
"""

# The newest changes of one price, or the newest before one of them, in order of time.
PRICE_HISTORY = """
SELECT id, event_id, line, price, active, observed_at, run_id FROM (
  SELECT * FROM odds_price_changes
  WHERE event_id = ANY ($1::bigint[]) AND market = $2 AND outcome = $3
    AND line IS NOT DISTINCT FROM $4
    AND ($6::timestamptz IS NULL OR (observed_at, id) < ($6, $7))
  ORDER BY observed_at DESC, id DESC LIMIT $5) newest
ORDER BY observed_at, id
"""

# A withdrawn price keeps its row, so that a line that is not offered any more is found too.
LINES = """
SELECT DISTINCT line FROM odds_prices
WHERE event_id = ANY ($1::bigint[]) AND market = $2 AND outcome = $3 ORDER BY line
"""

# By the index on `kickoff`, for the window shown only.
COMPETITIONS = """
SELECT DISTINCT country, competition FROM odds_events
WHERE kickoff >= $1 AND kickoff < $2 AND withdrawn_at IS NULL ORDER BY 1, 2 LIMIT $3
"""


async def match_page(pool: Pool | Connection, matches: MatchFilter) -> MatchPage:
    """Return the first `limit` matching matches, in order of kick-off, with their prices."""
    rows = await pool.fetch(
        PICKED,
        matches.since,
        matches.until,
        matches.competition,
        matches.teams,
        matches.limit + 1,
        *(matches.after or (None, None)),
    )
    picked = [PickedMatch(*row) for row in rows[: matches.limit]]
    ids = [event_id for match in picked for event_id in match.event_ids]
    last = picked[-1] if len(rows) > matches.limit else None
    return MatchPage(picked, await prices(pool, ids, matches.market), last)


async def prices(
    pool: Pool | Connection, event_ids: Sequence[int], market: Market | None
) -> list[dict[str, Any]]:
    """Return every price of the events, as plain rows: None if it was withdrawn.

    An event without a price is a row without a market.
    """
    return [dict(row) for row in await pool.fetch(PRICES, event_ids, market)]


def compare(rows: Sequence[dict[str, Any]], now: datetime, max_age: timedelta) -> list[Match]:
    """Compare the rows that have a price, match by match."""
    offers = [_offer(row) for row in rows if row["price"] is not None]
    return comparison.compare(offers, now, max_age)


def _offer(row: dict[str, Any]) -> OddsOffer:
    fields = {name: value for name, value in row.items() if name != "event_id"}
    fields |= {"market": Market(row["market"]), "outcome": MarketOutcome(row["outcome"])}
    return OddsOffer(**fields)


async def events(pool: Pool | Connection, name: str) -> list[dict[str, Any]]:
    """Return the events of a match. `name`: its Sportradar id, or `platform/event id`.

    `listed_at` and `listed_run_id`: the last complete listing of the event's partition.
    """
    platform, _, key = name.partition("/")
    return [dict(row) for row in await pool.fetch(EVENTS, name, platform, key)]


async def event_changes(
    pool: Pool | Connection, event_ids: Sequence[int], limit: int
) -> list[dict[str, Any]]:
    """Return the newest changes of kick-off, teams or presence of the events."""
    return [dict(row) for row in await pool.fetch(EVENT_CHANGES, event_ids, limit)]


async def lines(
    pool: Pool | Connection, event_ids: Sequence[int], market: Market, outcome: MarketOutcome
) -> list[Decimal | None]:
    """Return the lines (handicaps or totals) for which the events have that outcome."""
    return [row["line"] for row in await pool.fetch(LINES, event_ids, market, outcome)]


async def price_history(
    pool: Pool | Connection,
    event_ids: Sequence[int],
    outcome: tuple[Market, MarketOutcome, Decimal | None],
    limit: int | None = None,
    before: tuple[datetime, int] | None = None,
) -> list[dict[str, Any]]:
    """Return every price change of one outcome of the events, oldest first.

    `outcome`: market, outcome, line. `limit`: only so many, the newest ones. `before`: only those
    before the change of this (observed_at, id).
    """
    place = before or (None, None)
    rows = await pool.fetch(PRICE_HISTORY, event_ids, *outcome, limit, *place)
    return [dict(row) for row in rows]


async def no_price_reason(
    pool: Pool | Connection,
    name: str,
    event_ids: Sequence[int],
    outcome: tuple[Market, MarketOutcome, Decimal | None],
) -> str:
    """Return why the history of a price is empty. `name`: what the match was asked for as."""
    if not event_ids:
        return f"no match {name!r}: give a Sportradar id, or platform/event id"
    found = await lines(pool, event_ids, outcome[0], outcome[1])
    known = ", ".join("none" if line is None else str(line) for line in found)
    if not known:
        return f"no price of {outcome[0]} {outcome[1]} was ever recorded there"
    return f"no price of {outcome[0]} {outcome[1]} on that line; lines: {known}"


async def competitions(
    pool: Pool | Connection, since: datetime, until: datetime, limit: int
) -> list[tuple[str, str]]:
    """Return (country, competition) of matches that kick off in [since, until)."""
    return [(row[0], row[1]) for row in await pool.fetch(COMPETITIONS, since, until, limit)]
