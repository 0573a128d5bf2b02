"""Odds: only what moved is written, and every move is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.records import OddsEvent
from app.store.db import Connection


@dataclass(frozen=True, slots=True)
class Written:
    """Prices given, and what became of them."""

    prices: int
    inserted: int
    changed: int

    @property
    def unchanged(self) -> int:
        """Prices that were already so."""
        return self.prices - self.inserted - self.changed

    @property
    def points(self) -> int:
        """Odds have no sentiment."""
        return 0


# A site that stops sending the Sportradar id does not make us forget it.
EVENTS = """
WITH given AS (
  SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                       $8::text[], $9::timestamptz[])
    AS g (platform_event_id, sportradar_id, country, competition, competition_id,
          home, away, kickoff)
), known AS (
  SELECT e.* FROM odds_events e
  JOIN given g ON e.platform = $1 AND e.platform_event_id = g.platform_event_id
), moved AS (
  INSERT INTO odds_events (platform, platform_event_id, sportradar_id, country, competition,
                           competition_id, home, away, kickoff, first_seen_at, updated_at, run_id)
  SELECT $1, g.platform_event_id, g.sportradar_id, g.country, g.competition,
         g.competition_id, g.home, g.away, g.kickoff, $10, $10, $11
  FROM given g LEFT JOIN known k USING (platform_event_id)
  WHERE k.id IS NULL
     OR (coalesce(g.sportradar_id, k.sportradar_id), g.country, g.competition, g.competition_id,
         g.home, g.away, g.kickoff)
        IS DISTINCT FROM (k.sportradar_id, k.country, k.competition, k.competition_id,
                          k.home, k.away, k.kickoff)
  ORDER BY g.platform_event_id
  ON CONFLICT (platform, platform_event_id) DO UPDATE SET
    sportradar_id = coalesce(excluded.sportradar_id, odds_events.sportradar_id),
    country = excluded.country, competition = excluded.competition,
    competition_id = excluded.competition_id, home = excluded.home, away = excluded.away,
    kickoff = excluded.kickoff, updated_at = excluded.updated_at, run_id = excluded.run_id
  RETURNING id, platform_event_id
)
SELECT platform_event_id, id FROM moved
UNION
SELECT platform_event_id, id FROM known
"""

# ON CONFLICT looks again: another run may have written the same move since the anti-join looked.
PRICES = """
WITH given AS (
  SELECT * FROM unnest($1::bigint[], $2::text[], $3::numeric[], $4::text[], $5::numeric[],
                       $6::bool[])
    AS g (event_id, market, line, outcome, price, active)
), moved AS (
  INSERT INTO odds_prices (event_id, market, line, outcome, price, active, changed_at, run_id)
  SELECT g.event_id, g.market, g.line, g.outcome, g.price, g.active, $7, $8
  FROM given g LEFT JOIN odds_prices p
    ON p.event_id = g.event_id AND p.market = g.market AND p.outcome = g.outcome
   AND p.line IS NOT DISTINCT FROM g.line
  WHERE p.id IS NULL OR p.price <> g.price OR p.active <> g.active
  ORDER BY g.event_id, g.market, g.line, g.outcome
  ON CONFLICT (event_id, market, line, outcome) DO UPDATE SET
    price = excluded.price, active = excluded.active, changed_at = excluded.changed_at,
    run_id = excluded.run_id
  WHERE (odds_prices.price, odds_prices.active) IS DISTINCT FROM (excluded.price, excluded.active)
  RETURNING event_id, market, line, outcome, price, active, xmax = 0 AS fresh
), kept AS (
  INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active,
                                  observed_at, run_id)
  SELECT event_id, market, line, outcome, price, active, $7, $8 FROM moved
)
SELECT count(*) FILTER (WHERE fresh) AS inserted, count(*) FILTER (WHERE NOT fresh) AS changed
FROM moved
"""


async def write(
    connection: Connection, events: Sequence[OddsEvent], now: datetime, run_id: UUID
) -> Written:
    """Write one page of one platform's events. Writing the same page again changes nothing."""
    if not events:
        return Written(0, 0, 0)
    # One order everywhere, in the statements too, whatever way the planner joins: two runs on the
    # same events never wait for each other in turn.
    page = sorted({e.platform_event_id: e for e in events}.values(), key=_natural_key)
    ids = await _write_events(connection, page, now, run_id)
    prices = [(ids[e.platform_event_id], price) for e in page for price in e.prices]
    row = await connection.fetchrow(
        PRICES,
        [event_id for event_id, _ in prices],
        [p.market.value for _, p in prices],
        [p.line for _, p in prices],
        [p.outcome.value for _, p in prices],
        [p.price for _, p in prices],
        [p.active for _, p in prices],
        now,
        run_id,
    )
    inserted, changed = (row["inserted"], row["changed"]) if row else (0, 0)
    return Written(len(prices), inserted, changed)


def _natural_key(event: OddsEvent) -> str:
    return event.platform_event_id


async def _write_events(
    connection: Connection, page: Sequence[OddsEvent], now: datetime, run_id: UUID
) -> dict[str, int]:
    rows = await connection.fetch(
        EVENTS,
        page[0].platform,
        [e.platform_event_id for e in page],
        [e.sportradar_id for e in page],
        [e.country for e in page],
        [e.competition for e in page],
        [e.competition_id for e in page],
        [e.home for e in page],
        [e.away for e in page],
        [e.kickoff for e in page],
        now,
        run_id,
    )
    return {row["platform_event_id"]: row["id"] for row in rows}
