"""Checks that comparison and price history use indexes among ten million price changes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from rich.console import Console

from app.core.enums import Market, MarketOutcome
from app.store.content import odds_comparison, partitions
from app.store.db import open_pool

EVENTS = 60_000
LARGE = 10_000  # rows; a table beyond this must not be read from end to end

FILL_EVENTS = """
INSERT INTO odds_events (platform, platform_event_id, sportradar_id, country, competition, home,
                         away, kickoff, first_seen_at, updated_at, run_id, seen_at, seen_run_id,
                         partition)
SELECT (ARRAY['sportybet', 'betpawa', 'bet9ja'])[n % 3 + 1], n::text, (n / 3)::text, 'England',
       'League ' || n % 40, 'Home', 'Away', $1::timestamptz + n / 3 * interval '3 minutes',
       $1, $1, gen_random_uuid(), $1, gen_random_uuid(), 'football'
FROM generate_series(0, $2::int - 1) n
"""
FILL_PRICES = """
INSERT INTO odds_prices (event_id, market, line, outcome, price, active, changed_at, run_id)
SELECT e.id, '1x2', NULL, o, 2.5, true, $1, gen_random_uuid()
FROM odds_events e, unnest(ARRAY['home', 'draw', 'away']) o
"""
FILL_CHANGES = """
INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active, observed_at, run_id)
SELECT e.id, '1x2', NULL, (ARRAY['home', 'draw', 'away'])[n % 3 + 1], 2 + n % 90 / 100.0, true,
       $1::timestamptz + n * interval '10 minutes', '00000000-0000-0000-0000-000000000001'
FROM generate_series(1, $2::int) n, odds_events e
"""


async def measure(server: str, changes: int) -> dict[str, Any]:
    """Fill a database and explain the queries; raises SystemExit on a scan of a large table.

    Returns the milliseconds and the indexes of each query.
    """
    dsn = urlsplit(server)._replace(path="/odds_plans").geturl()
    maintenance = await asyncpg.connect(urlsplit(server)._replace(path="/postgres").geturl())
    await maintenance.execute('CREATE DATABASE "odds_plans" TEMPLATE "rollcall"')
    await maintenance.close()
    pool = await open_pool(dsn, size=1)
    try:
        await partitions.create_upcoming(pool, datetime.now(UTC))
        async with pool.acquire() as connection:
            return await _explained(connection, changes)
    finally:
        pool.terminate()


async def _explained(connection: Any, changes: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    await connection.execute(FILL_EVENTS, now, EVENTS, timeout=600)
    await connection.execute(FILL_PRICES, now, timeout=600)
    await connection.execute(FILL_CHANGES, now, max(1, changes // EVENTS), timeout=3600)
    await connection.execute("VACUUM ANALYZE", timeout=3600)
    ids = [row[0] for row in await connection.fetch("SELECT id FROM odds_events LIMIT 3")]
    asked: dict[str, tuple[str, tuple[Any, ...]]] = {
        "matches": (
            odds_comparison.PICKED, (now, now + timedelta(days=1), None, None, 50, None, None)
        ),
        "by competition": (
            odds_comparison.PICKED, (now, now + timedelta(days=1), "League 7", None, 50, None, None)
        ),
        "prices": (odds_comparison.PRICES, (ids, Market.MATCH_RESULT)),
        "events of a match": (odds_comparison.EVENTS, ("77", "77", "")),
        "history": (
            odds_comparison.PRICE_HISTORY,
            (ids, Market.MATCH_RESULT, MarketOutcome.HOME, None, 5_000, None, None),
        ),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, (query, values) in asked.items():
        found[name] = await _plan(connection, query, values)
        Console().print(f"{name}: {found[name]}")
    return found


async def _plan(connection: Any, query: str, values: tuple[Any, ...]) -> dict[str, Any]:
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *values)
    (plan,) = json.loads(text)
    nodes = list(_nodes(plan["Plan"]))
    whole = [
        node["Relation Name"]
        for node in nodes
        if node["Node Type"] == "Seq Scan" and node["Actual Rows"] * node["Actual Loops"] > LARGE
    ]
    if whole:
        raise SystemExit(f"{', '.join(whole)} is read from end to end:\n{text}")
    indexes = sorted({node["Index Name"] for node in nodes if "Index Name" in node})
    return {"ms": plan["Execution Time"], "indexes": indexes}


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)
