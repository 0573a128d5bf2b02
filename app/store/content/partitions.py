"""Monthly partitions (UTC) of tables that only grow: created ahead of time, dropped when old."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.store.db import Connection, Pool

MONTHS_AHEAD = 2  # besides the present month


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table partitioned by the month of an instant; `<name>_rest` is its default partition.

    `setting`: the setting with its retention in days. `before_drop`: a statement that notes what is
    dropped, with `{where}` in it, executed in the same transaction. `secured`: it is under
    row-level security, and its partitions are reached through it only.
    """

    name: str
    column: str
    setting: str
    before_drop: str = ""
    secured: bool = False


PRICE_CHANGES = PartitionedTable("odds_price_changes", "observed_at", "odds_changes_days")
# The feed reports to its readers that changes they have not read were dropped.
CHANGES = PartitionedTable(
    "changes",
    "at",
    "change_days",
    "UPDATE change_clock SET dropped_through = greatest(dropped_through,"
    " (SELECT coalesce(max(position), 0) FROM changes WHERE {where}))",
    secured=True,
)
TABLES = (PRICE_CHANGES, CHANGES)

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall.odds_months'))"

# Rows in the default partition prevent creating the partition of their month.
_IN_DEFAULT = """
SELECT EXISTS (SELECT FROM {name} WHERE tableoid = '{name}_rest'::regclass
               AND {column} >= $1 AND {column} < $2)
"""

_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass
"""

_PRUNE_DEFAULT = """
DELETE FROM {name} WHERE tableoid = '{name}_rest'::regclass AND ctid IN (
  SELECT ctid FROM {name} WHERE tableoid = '{name}_rest'::regclass AND {column} < $1 LIMIT $2
)
"""
_SECURE = """
ALTER TABLE "{name}" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "{name}" FORCE ROW LEVEL SECURITY
"""


def month_start(at: datetime) -> datetime:
    """Return the first instant of the month of `at`, in UTC."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    """Return the first instant of the following month."""
    return month_start(month + timedelta(days=31))


async def create_upcoming(
    pool: Pool, now: datetime, table: PartitionedTable = PRICE_CHANGES
) -> list[str]:
    """Create the missing partitions of the present and the next months; returns their names.

    Costs one catalogue query if all exist. Safe to call concurrently.
    """
    months = [month_start(now)]
    for _ in range(MONTHS_AHEAD):
        months.append(next_month(months[-1]))
    existing = await _existing(pool, table)
    missing = [month for month in months if _name(table, month) not in existing]
    if not missing:
        return []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK)
        existing = await _existing(connection, table)
        missing = [month for month in missing if _name(table, month) not in existing]
        return [_name(table, month) for month in missing if await _create(connection, table, month)]


async def drop_ended(
    pool: Pool,
    before: datetime,
    table: PartitionedTable = PRICE_CHANGES,
    *,
    batch: int = 50_000,
) -> list[str]:
    """Drop the partitions of months that ended before `before`, and old rows of the default one.

    Returns the names of the dropped partitions. A month is kept until all of it is old enough.
    """
    dropped = await ended_before(pool, before, table)
    for name in dropped:
        async with pool.acquire() as connection, connection.transaction():
            if table.before_drop:
                where = f"tableoid = '{name}'::regclass"
                await connection.execute(table.before_drop.format(where=where))
            await connection.execute(f'DROP TABLE IF EXISTS "{name}"')
    prune = _PRUNE_DEFAULT.format(name=table.name, column=table.column)
    if table.before_drop:
        where = f"tableoid = '{table.name}_rest'::regclass AND {table.column} < $1"
        await pool.execute(table.before_drop.format(where=where), before)
    while (await pool.execute(prune, before, batch)) == f"DELETE {batch}":
        pass
    return dropped


async def ended_before(
    pool: Pool, before: datetime, table: PartitionedTable = PRICE_CHANGES
) -> list[str]:
    """Return the names of the partitions of months that ended before `before`."""
    return sorted(name for name in await _existing(pool, table) if _ended(table, name, before))


def _name(table: PartitionedTable, month: datetime) -> str:
    return f"{table.name}_{month:%Y_%m}"


def _ended(table: PartitionedTable, name: str, before: datetime) -> bool:
    try:
        month = datetime.strptime(name, f"{table.name}_%Y_%m").replace(tzinfo=UTC)
    except ValueError:
        return False
    return next_month(month) <= before


async def _existing(pool: Pool | Connection, table: PartitionedTable) -> set[str]:
    return {row["relname"] for row in await pool.fetch(_PARTITIONS, table.name)}


async def _create(connection: Connection, table: PartitionedTable, month: datetime) -> bool:
    end = next_month(month)
    in_default = _IN_DEFAULT.format(name=table.name, column=table.column)
    if await connection.fetchval(in_default, month, end):
        return False
    await connection.execute(
        f'CREATE TABLE "{_name(table, month)}" PARTITION OF {table.name}'
        f" FOR VALUES FROM ('{month:%Y-%m-%d}+00') TO ('{end:%Y-%m-%d}+00')"
    )
    if table.secured:
        await connection.execute(_SECURE.format(name=_name(table, month)))
    return True
