"""Monthly partitions (UTC) of the price changes: created ahead of time, dropped when old."""

from datetime import UTC, datetime, timedelta

from app.store.db import Connection, Pool

PREFIX = "odds_price_changes_"
MONTHS_AHEAD = 2  # besides the present month

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall.odds_months'))"

# Rows in the default partition prevent creating the partition of their month.
_IN_DEFAULT = """
SELECT EXISTS (
  SELECT FROM odds_price_changes_rest WHERE observed_at >= $1 AND observed_at < $2
)
"""

_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'odds_price_changes'::regclass
"""

_PRUNE_DEFAULT = """
DELETE FROM odds_price_changes_rest WHERE ctid IN (
  SELECT ctid FROM odds_price_changes_rest WHERE observed_at < $1 LIMIT $2
)
"""


def month_start(at: datetime) -> datetime:
    """Return the first instant of the month of `at`, in UTC."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    """Return the first instant of the following month."""
    return month_start(month + timedelta(days=31))


async def create_upcoming(pool: Pool, now: datetime) -> list[str]:
    """Create the missing partitions of the present and the next months; returns their names.

    Costs one catalogue query if all exist. Safe to call concurrently.
    """
    months = [month_start(now)]
    for _ in range(MONTHS_AHEAD):
        months.append(next_month(months[-1]))
    existing = await _existing(pool)
    missing = [month for month in months if _name(month) not in existing]
    if not missing:
        return []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK)
        existing = await _existing(connection)
        missing = [month for month in missing if _name(month) not in existing]
        return [_name(month) for month in missing if await _create(connection, month)]


async def drop_ended(pool: Pool, before: datetime, *, batch: int = 50_000) -> list[str]:
    """Drop the partitions of months that ended before `before`, and old rows of the default one.

    Returns the names of the dropped partitions. A month is kept until all of it is old enough.
    """
    dropped = await ended_before(pool, before)
    for name in dropped:
        await pool.execute(f'DROP TABLE IF EXISTS "{name}"')
    while (await pool.execute(_PRUNE_DEFAULT, before, batch)) == f"DELETE {batch}":
        pass
    return dropped


async def ended_before(pool: Pool, before: datetime) -> list[str]:
    """Return the names of the partitions of months that ended before `before`."""
    return sorted(name for name in await _existing(pool) if _ended(name, before))


def _name(month: datetime) -> str:
    return f"{PREFIX}{month:%Y_%m}"


def _ended(name: str, before: datetime) -> bool:
    try:
        month = datetime.strptime(name, f"{PREFIX}%Y_%m").replace(tzinfo=UTC)
    except ValueError:
        return False
    return next_month(month) <= before


async def _existing(pool: Pool | Connection) -> set[str]:
    return {row["relname"] for row in await pool.fetch(_PARTITIONS)}


async def _create(connection: Connection, month: datetime) -> bool:
    end = next_month(month)
    if await connection.fetchval(_IN_DEFAULT, month, end):
        return False
    await connection.execute(
        f'CREATE TABLE "{_name(month)}" PARTITION OF odds_price_changes'
        f" FOR VALUES FROM ('{month:%Y-%m-%d}+00') TO ('{end:%Y-%m-%d}+00')"
    )
    return True
