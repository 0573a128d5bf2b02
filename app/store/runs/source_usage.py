"""What sources with a monthly budget have used of it. Months are those of UTC."""

from datetime import UTC, date, datetime

from app.store.db import Pool

# The row's lock makes workers that spend at once do so one after the other.
SPEND = """
INSERT INTO source_usage AS u (source, month, requests)
SELECT $1, $2, $3::bigint WHERE $3::bigint <= $4::bigint
ON CONFLICT (source, month) DO UPDATE SET requests = u.requests + $3::bigint
  WHERE u.requests + $3::bigint <= $4::bigint
RETURNING requests
"""
USED = "SELECT source, requests FROM source_usage WHERE month = $1 ORDER BY source"


def month_of(now: datetime) -> date:
    """Return the first day of the month."""
    return now.astimezone(UTC).date().replace(day=1)


async def spend(pool: Pool, source: str, cost: int, budget: int, now: datetime) -> bool:
    """Count `cost` requests, unless the month's `budget` would be exceeded. Whether it counted."""
    return await pool.fetchval(SPEND, source, month_of(now), cost, budget) is not None


async def used_this_month(pool: Pool) -> dict[str, int]:
    """The same as `used`, by the database's clock."""
    return await used(pool, await pool.fetchval("SELECT now()"))


async def used(pool: Pool, now: datetime) -> dict[str, int]:
    """Return the requests of this month by source, of those that have or had a budget."""
    return {row["source"]: row["requests"] for row in await pool.fetch(USED, month_of(now))}
