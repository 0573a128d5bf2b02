"""What runs left in the tables, as plain values that can be compared."""

from typing import Any

from app.store.db import Pool

PLATFORMS = ("sportybet", "betpawa", "bet9ja")
TABLES = ("odds_events", "odds_prices", "odds_price_changes")


async def stored(pool: Pool) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the odds tables."""
    return {
        table: [tuple(row) for row in await pool.fetch(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608 - our own words
        for table in TABLES
    }


async def events_of(pool: Pool) -> dict[str, int]:
    """How many events are stored of each platform."""
    rows = await pool.fetch("SELECT platform, count(*) FROM odds_events GROUP BY platform")
    return {row["platform"]: row["count"] for row in rows}


async def prices_of(pool: Pool) -> int:
    """How many prices are stored."""
    count: int = await pool.fetchval("SELECT count(*) FROM odds_prices")
    return count
