"""Queries that compare odds: current prices of each site, and the history of one price."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.core.enums import Market, MarketOutcome
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class MatchFilter:
    """Filter of matches: kick-off in [since, until); at most `limit`, the earliest ones.

    `competition`: a substring of the competition's or country's name, case-insensitive.
    """

    since: datetime
    until: datetime
    competition: str | None = None
    market: Market | None = None
    limit: int = 50


# `seen_at`: the later of when the event was written and when its partition was last listed.
OFFERS = """
WITH picked AS (
  SELECT sportradar_id, CASE WHEN sportradar_id IS NULL THEN id END AS lone, min(kickoff) AS kickoff
  FROM odds_events
  WHERE kickoff >= $1 AND kickoff <= $2 AND withdrawn_at IS NULL
    AND ($3::text IS NULL OR strpos(lower(country || ' ' || competition), lower($3)) > 0)
  GROUP BY 1, 2 ORDER BY 3, 1, 2 LIMIT $5
), events AS (
  SELECT e.* FROM picked p JOIN odds_events e ON e.sportradar_id = p.sportradar_id
  UNION ALL
  SELECT e.* FROM picked p JOIN odds_events e ON e.id = p.lone
)
SELECT coalesce(e.sportradar_id, e.platform || '/' || e.platform_event_id) AS match, e.platform,
       e.country, e.competition, e.home, e.away, e.kickoff, p.market, p.line, p.outcome, p.price,
       p.active,
       CASE WHEN e.absent_since IS NULL THEN greatest(e.seen_at, b.listed_at) ELSE e.seen_at END
         AS seen_at,
       p.changed_at
FROM events e
JOIN odds_prices p ON p.event_id = e.id
LEFT JOIN odds_boards b ON b.platform = e.platform AND b.partition = e.partition
WHERE e.kickoff >= $1 AND p.price IS NOT NULL AND ($4::text IS NULL OR p.market = $4)
ORDER BY e.kickoff, match, e.platform, p.market, p.line, p.outcome
"""

EVENTS = """
SELECT id, platform, home, away, kickoff, competition FROM odds_events
WHERE sportradar_id = $1
UNION
SELECT id, platform, home, away, kickoff, competition FROM odds_events
WHERE platform = $2 AND platform_event_id = $3
"""

PRICE_HISTORY = """
SELECT event_id, line, price, active, observed_at, run_id FROM odds_price_changes
WHERE event_id = ANY ($1::bigint[]) AND market = $2 AND outcome = $3
  AND line IS NOT DISTINCT FROM $4
ORDER BY observed_at, id
"""

LINES = """
SELECT DISTINCT line FROM odds_prices
WHERE event_id = ANY ($1::bigint[]) AND market = $2 AND outcome = $3 ORDER BY line
"""


async def offers(pool: Pool | Connection, matches: MatchFilter) -> list[dict[str, Any]]:
    """Return every price of the matching events at every site, as plain rows."""
    rows = await pool.fetch(
        OFFERS, matches.since, matches.until, matches.competition, matches.market, matches.limit
    )
    return [dict(row) for row in rows]


async def events(pool: Pool, name: str) -> list[dict[str, Any]]:
    """Return the events of a match. `name`: its Sportradar id, or `platform/event id`."""
    platform, _, key = name.partition("/")
    return [dict(row) for row in await pool.fetch(EVENTS, name, platform, key)]


async def lines(
    pool: Pool, event_ids: Sequence[int], market: Market, outcome: MarketOutcome
) -> list[Decimal | None]:
    """Return the lines (handicaps or totals) for which the events have that outcome."""
    return [row["line"] for row in await pool.fetch(LINES, event_ids, market, outcome)]


async def price_history(
    pool: Pool, event_ids: Sequence[int], outcome: tuple[Market, MarketOutcome, Decimal | None]
) -> list[dict[str, Any]]:
    """Return every price change of one outcome of the events, oldest first.

    `outcome`: market, outcome, line.
    """
    return [dict(row) for row in await pool.fetch(PRICE_HISTORY, event_ids, *outcome)]
