"""The moves of the prices, a table for each month (UTC): opened ahead, dropped when old."""

from datetime import UTC, datetime, timedelta

from app.store.db import Connection, Pool

PREFIX = "odds_price_changes_"
AHEAD = 2  # months, beside the present one

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall.odds_months'))"

# What fell into the rest while its month was not there would keep the month from being opened.
_IN_THE_REST = """
SELECT EXISTS (
  SELECT FROM odds_price_changes_rest WHERE observed_at >= $1 AND observed_at < $2
)
"""

_THERE = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'odds_price_changes'::regclass
"""

_PRUNE_REST = """
DELETE FROM odds_price_changes_rest WHERE ctid IN (
  SELECT ctid FROM odds_price_changes_rest WHERE observed_at < $1 LIMIT $2
)
"""


def month_of(at: datetime) -> datetime:
    """The first instant of its month."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def after(month: datetime) -> datetime:
    """The first instant of the month that follows."""
    return month_of(month + timedelta(days=31))


async def ready(pool: Pool, now: datetime) -> list[str]:
    """Open the present month and those to come, where they are missing; returns their names.

    Costs one look at the catalogue when all is there. Safe to race.
    """
    months = [month_of(now)]
    for _ in range(AHEAD):
        months.append(after(months[-1]))
    there = await _there(pool)
    missing = [month for month in months if _name(month) not in there]
    if not missing:
        return []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK)
        there = await _there(connection)
        opened = [month for month in missing if _name(month) not in there]
        return [_name(m) for m in opened if await _open(connection, m)]


async def prune(pool: Pool, before: datetime, *, batch: int = 50_000) -> list[str]:
    """Drop the months that ended before `before`, and what is as old in the rest.

    Returns the names of what was dropped. What is younger stays, so up to a month more is kept.
    """
    dropped = await old(pool, before)
    for name in dropped:
        await pool.execute(f'DROP TABLE IF EXISTS "{name}"')
    while (await pool.execute(_PRUNE_REST, before, batch)) == f"DELETE {batch}":
        pass
    return dropped


async def old(pool: Pool, before: datetime) -> list[str]:
    """The months that ended before `before`."""
    return sorted(name for name in await _there(pool) if _ended(name, before))


def _name(month: datetime) -> str:
    return f"{PREFIX}{month:%Y_%m}"


def _ended(name: str, before: datetime) -> bool:
    try:
        month = datetime.strptime(name, f"{PREFIX}%Y_%m").replace(tzinfo=UTC)
    except ValueError:
        return False
    return after(month) <= before


async def _there(pool: Pool | Connection) -> set[str]:
    return {row["relname"] for row in await pool.fetch(_THERE)}


async def _open(connection: Connection, month: datetime) -> bool:
    end = after(month)
    if await connection.fetchval(_IN_THE_REST, month, end):
        return False
    await connection.execute(
        f'CREATE TABLE "{_name(month)}" PARTITION OF odds_price_changes'
        f" FOR VALUES FROM ('{month:%Y-%m-%d}+00') TO ('{end:%Y-%m-%d}+00')"
    )
    return True
