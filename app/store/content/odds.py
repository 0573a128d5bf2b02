"""Statements for odds events and prices. Only changes are written, and every change is kept."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from app.core.enums import EventChange
from app.core.records import OddsEvent
from app.store.content import fingerprints
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection

EVENTS_PER_STATEMENT = (
    100  # events per statement, so that encoding thousands does not block the event loop
)


# The stored fingerprints, read without a lock: most pages are unchanged and end here.
KNOWN = """
SELECT platform_event_id, fingerprint FROM odds_events
WHERE platform = $1 AND platform_event_id = ANY ($2::text[])
"""

# Takes all row locks of a page in id order, independent of the query plan, so that two runs on the
# same events cannot deadlock. Returns each event's previous fields, as read under the lock.
# An event that a later page wrote is not changed; without a page (a replay), one seen later is not.
EVENTS = """
INSERT INTO odds_events AS e (platform, platform_event_id, sportradar_id, country, competition,
                              competition_id, home, away, kickoff, first_seen_at, updated_at,
                              run_id, seen_at, seen_run_id, fingerprint, page_order)
SELECT $1, g.platform_event_id, g.sportradar_id, g.country, g.competition, g.competition_id,
       g.home, g.away, g.kickoff, $11, $11, $12, $11, $12, g.fingerprint,
       coalesce(page_order(), 0)
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::timestamptz[], $10::bytea[])
  AS g (platform_event_id, sportradar_id, country, competition, competition_id, home, away,
        kickoff, fingerprint)
ORDER BY g.platform_event_id
ON CONFLICT (platform, platform_event_id) DO UPDATE SET
  absent_since = NULL, seen_at = excluded.seen_at, seen_run_id = excluded.seen_run_id,
  fingerprint = excluded.fingerprint, page_order = coalesce(page_order(), e.page_order)
WHERE CASE WHEN page_order() IS NULL THEN e.seen_at <= excluded.seen_at
           ELSE e.page_order <= page_order() END
RETURNING id, platform_event_id, sportradar_id, country, competition, competition_id, home, away,
          kickoff, withdrawn_at
"""

# A known Sportradar id is kept if the site stops sending it.
FACTS = """
WITH given AS (
  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                       $7::text[], $8::timestamptz[])
    AS g (id, sportradar_id, country, competition, competition_id, home, away, kickoff)
)
UPDATE odds_events e SET
  sportradar_id = coalesce(g.sportradar_id, e.sportradar_id), country = g.country,
  competition = g.competition, competition_id = g.competition_id, home = g.home, away = g.away,
  kickoff = g.kickoff, withdrawn_at = NULL, updated_at = $9, run_id = $10
FROM given g WHERE e.id = g.id
"""

# Bulk insert by unnest: one statement for all changes of a page.
CHANGES = """
INSERT INTO odds_event_changes (event_id, what, before, after, observed_at, run_id)
SELECT c.event_id, c.what, c.before, c.after, $5, $6
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS c (event_id, what, before, after)
"""

# The row locks on the events exclude concurrent writers of their prices.
# A price that is suspended and blanked keeps its last value.
# A line is never NaN, so NaN stands for "no line", which makes it comparable and hashable.
# All are passed as one text: asyncpg encodes arrays element by element, which takes longer than
# joining and splitting the text. OFFSET 0: each is split once.
PRICES = """
WITH given AS MATERIALIZED (
  SELECT of[1]::bigint AS event_id, of[2] AS market, of[3]::numeric AS line, of[4] AS outcome,
         of[5]::numeric AS price, of[6]::bool AS active
  FROM (SELECT string_to_array(each, ',', '') AS of
        FROM unnest(string_to_array($1, ';')) AS each OFFSET 0) split
), moved AS MATERIALIZED (
  SELECT p.ctid AS place, coalesce(g.event_id, p.event_id) AS event_id,
         coalesce(g.market, p.market) AS market, coalesce(g.line, p.line) AS line,
         coalesce(g.outcome, p.outcome) AS outcome,
         CASE WHEN g.event_id IS NULL THEN NULL ELSE coalesce(g.price, p.price) END AS price,
         coalesce(g.active, false) AS active
  FROM given g FULL JOIN (SELECT ctid, * FROM odds_prices WHERE event_id = ANY ($2::bigint[])) p
    ON p.event_id = g.event_id AND p.market = g.market AND p.outcome = g.outcome
   AND coalesce(p.line, 'NaN') = coalesce(g.line, 'NaN')
  WHERE CASE WHEN g.event_id IS NULL
    THEN p.price IS NOT NULL AND p.event_id = ANY ($3::bigint[])
    ELSE coalesce(g.price, p.price) IS NOT NULL
     AND (coalesce(g.price, p.price), g.active) IS DISTINCT FROM (p.price, p.active)
  END
), inserted AS (
  INSERT INTO odds_prices (event_id, market, line, outcome, price, active, changed_at, run_id)
  SELECT event_id, market, line, outcome, price, active, $4, $5 FROM moved WHERE place IS NULL
), changed AS (
  UPDATE odds_prices p SET price = m.price, active = m.active, changed_at = $4, run_id = $5
  FROM moved m WHERE p.ctid = m.place
), logged AS (
  INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active,
                                  observed_at, run_id)
  SELECT event_id, market, line, outcome, price, active, $4, $5 FROM moved
)
SELECT count(*) FILTER (WHERE place IS NULL) AS inserted,
       count(*) FILTER (WHERE place IS NOT NULL AND price IS NOT NULL) AS changed,
       count(*) FILTER (WHERE price IS NULL) AS withdrawn
FROM moved
"""


async def write(
    connection: Connection, events: Sequence[OddsEvent], now: datetime, run_id: UUID
) -> WriteCounts:
    """Write one page of one platform's events, as fetched at `now`.

    Writing the same page again changes nothing, and an unchanged event is not written.
    A stored price that a complete record lacks is withdrawn.
    """
    latest = {event.platform_event_id: event for event in events}
    page = [latest[key] for key in sorted(latest)]  # a fixed lock order, across slices too
    total = WriteCounts()
    for start in range(0, len(page), EVENTS_PER_STATEMENT):
        total = total.plus(
            await _write_some(connection, page[start : start + EVENTS_PER_STATEMENT], now, run_id)
        )
    return total


async def _write_some(
    connection: Connection, events: Sequence[OddsEvent], now: datetime, run_id: UUID
) -> WriteCounts:
    page = {event.platform_event_id: event for event in events}
    prices = sum(len(event.prices) for event in page.values())
    new_fingerprints = {key: fingerprints.fingerprint_of(event) for key, event in page.items()}
    changed_events = await _changed(connection, page, new_fingerprints) if page else []
    if not changed_events:
        return WriteCounts(prices, prices=prices)
    ids = await _write_events(connection, changed_events, new_fingerprints, now, run_id)
    written = [(ids[e.platform_event_id], e) for e in changed_events if e.platform_event_id in ids]
    inserted, changed, withdrawn = await _write_prices(connection, written, now, run_id)
    return WriteCounts(prices, inserted, changed, withdrawn=withdrawn, prices=prices)


async def _changed(
    connection: Connection, page: Mapping[str, OddsEvent], new_fingerprints: Mapping[str, bytes]
) -> list[OddsEvent]:
    platform = next(iter(page.values())).platform
    rows = await connection.fetch(KNOWN, platform, list(page))
    stored = {row["platform_event_id"]: row["fingerprint"] for row in rows}
    return [event for key, event in page.items() if stored.get(key) != new_fingerprints[key]]


async def _write_events(
    connection: Connection,
    page: Sequence[OddsEvent],
    new_fingerprints: Mapping[str, bytes],
    now: datetime,
    run_id: UUID,
) -> dict[str, int]:
    rows = await connection.fetch(
        EVENTS,
        page[0].platform,
        [e.platform_event_id for e in page],
        *_facts(page),
        [new_fingerprints[e.platform_event_id] for e in page],
        now,
        run_id,
    )
    by_key = {event.platform_event_id: event for event in page}
    changes = {row["id"]: changes_of(row, by_key[row["platform_event_id"]]) for row in rows}
    differing = [row for row in rows if _differs(row, by_key[row["platform_event_id"]])]
    if differing:
        facts = _facts([by_key[row["platform_event_id"]] for row in differing])
        await connection.execute(FACTS, [row["id"] for row in differing], *facts, now, run_id)
        change_rows = [(key, *change) for key, each in changes.items() for change in each]
        columns = zip(*change_rows, strict=True) if change_rows else ((), (), (), ())
        await connection.execute(CHANGES, *map(list, columns), now, run_id)
    return {row["platform_event_id"]: row["id"] for row in rows}


def _facts(page: Iterable[OddsEvent]) -> list[list[object]]:
    facts = [
        (e.sportradar_id, e.country, e.competition, e.competition_id, e.home, e.away, e.kickoff)
        for e in page
    ]
    return [list(column) for column in zip(*facts, strict=True)]


COMPARED_FIELDS = ("country", "competition", "competition_id", "home", "away", "kickoff")


def _differs(row: Record, event: OddsEvent) -> bool:
    new_id = event.sportradar_id is not None and event.sportradar_id != row["sportradar_id"]
    returned = row["withdrawn_at"] is not None
    return new_id or returned or any(row[name] != getattr(event, name) for name in COMPARED_FIELDS)


def changes_of(row: Record, event: OddsEvent) -> list[tuple[str, str, str | None]]:
    """Return the changes of the event against its stored row, as (kind, before, after)."""
    pairs = (
        (EventChange.KICKOFF, row["kickoff"].isoformat(), event.kickoff.isoformat()),
        (EventChange.TEAMS, f"{row['home']} - {row['away']}", f"{event.home} - {event.away}"),
        (EventChange.COMPETITION, row["competition"], event.competition),
    )
    changes: list[tuple[str, str, str | None]] = [
        (what.value, old, new) for what, old, new in pairs if old != new
    ]
    if row["withdrawn_at"] is not None:
        changes.append((EventChange.RETURNED.value, row["withdrawn_at"].isoformat(), None))
    return changes


async def _write_prices(
    connection: Connection, written: Sequence[tuple[int, OddsEvent]], now: datetime, run_id: UUID
) -> tuple[int, int, int]:
    row = await connection.fetchrow(
        PRICES,
        ";".join([f"{event_id},{p.text}" for event_id, event in written for p in event.prices]),
        [event_id for event_id, _ in written],
        [event_id for event_id, event in written if event.complete],
        now,
        run_id,
    )
    return (row["inserted"], row["changed"], row["withdrawn"]) if row else (0, 0, 0)
