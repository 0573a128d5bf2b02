"""Partitions by month or day (UTC) of tables that only grow: created ahead, dropped when old."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from app.core import log
from app.store.content.changes import BEFORE_DROP
from app.store.db import LOCKED, Connection, Pool

AHEAD = 2  # months or days, besides the present one
# A table of 100 partitions still costs little to plan and to lock; one of thousands does not.
MAX_DAYS_KEPT = 400
# Readers and writers of the table wait while creating or dropping a partition waits for its lock.
LOCK_WAIT = "200ms"
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 1.0

Result = TypeVar("Result")

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """A table partitioned by the month of an instant; `<name>_rest` is its default partition.

    `setting`: the setting with its retention in days. `before_drop`: a statement that notes what is
    dropped, with `{where}` in it, executed in the same transaction. `secured`: it is under
    row-level security, and organisations reach its partitions through it only. `daily`: its
    partitions are days, and `<name>_before` is what it was before it had any. `refers_to`: the
    table of its foreign key, which its writers lock before it. `may_move`: how many rows of the
    default partition may move into a new one of their time, under its lock.
    """

    name: str
    column: str
    setting: str
    before_drop: str = ""
    secured: bool = False
    daily: bool = False
    refers_to: str = ""
    may_move: int = 0


PRICE_CHANGES = PartitionedTable("odds_price_changes", "observed_at", "odds_changes_days")
CHANGES = PartitionedTable("changes", "at", "change_days", BEFORE_DROP, secured=True)
TABLES = (PRICE_CHANGES, CHANGES)
# Dropping a day of it is more than one statement: `app/maintenance/tick_retention.py`.
TICKS = PartitionedTable(
    "ticks",
    "scheduled_for",
    "tick_days",
    secured=True,
    daily=True,
    refers_to="schedules",
    may_move=10_000,
)

# One process at a time creates partitions, of whatever table: the key is the same for all.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall.odds_months'))"

# Rows in the default partition prevent creating the partition of their time.
_IN_DEFAULT = """
SELECT count(*) FROM (
  SELECT FROM {name} WHERE tableoid = '{name}_rest'::regclass
  AND {column} >= $1 AND {column} < $2 LIMIT $3) AS found
"""
_TAKE_OUT = """
CREATE TEMP TABLE moved ON COMMIT DROP AS
SELECT * FROM {name} WHERE tableoid = '{name}_rest'::regclass
AND {column} >= '{since}' AND {column} < '{until}';
DELETE FROM {name} WHERE tableoid = '{name}_rest'::regclass
AND {column} >= '{since}' AND {column} < '{until}'
"""

# From the catalogue, which is the only record of the partitions there are.
_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass
"""

# The end of the partition with all that was written before there were others.
_END_OF_BEFORE = """
SELECT substring(pg_get_expr(relpartbound, oid) FROM $$TO \\('(.+)'\\)$$)::timestamptz
FROM pg_class WHERE oid = to_regclass($1::text || '_before')
"""

# The default partition is never dropped: its old rows are deleted in batches, by their places.
_PRUNE_DEFAULT = """
DELETE FROM {name} WHERE tableoid = '{name}_rest'::regclass AND ctid IN (
  SELECT ctid FROM {name} WHERE tableoid = '{name}_rest'::regclass AND {column} < $1 LIMIT $2
)
"""
# By its own name, a partition shows its rows to the operator, who copies it, and to nobody else.
_SECURE = """
ALTER TABLE "{name}" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "{name}" FORCE ROW LEVEL SECURITY;
CREATE POLICY "{name}_kept" ON "{name}"
  USING ((SELECT current_setting('rollcall.house', true) = 'on'))
"""


def month_start(at: datetime) -> datetime:
    """Return the first instant of the month of `at`, in UTC."""
    return day_start(at).replace(day=1)


def next_month(month: datetime) -> datetime:
    """Return the first instant of the following month."""
    return month_start(month + timedelta(days=31))


def day_start(at: datetime) -> datetime:
    """Return the first instant of the day of `at`, in UTC."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def briefly(step: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `step`, tried several times while another session holds a lock that it needs.

    `step` must be one transaction that waits for locks for LOCK_WAIT only. Raises one of LOCKED.
    """
    for _ in range(LOCK_TRIES - 1):
        try:
            return await step()
        except LOCKED:
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
    return await step()


async def wait_briefly(connection: Connection) -> None:
    """Let the present transaction wait for locks for LOCK_WAIT only."""
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")


async def create_upcoming(
    pool: Pool, now: datetime, table: PartitionedTable = PRICE_CHANGES
) -> list[str]:
    """Create the missing partitions of the present and the next months; returns their names.

    Costs one catalogue query if all exist. Safe to call concurrently. Raises one of LOCKED if
    others hold the table for long: rows without a partition are kept in the default one.
    """
    starts = [_start(table, now)]
    for _ in range(AHEAD):
        starts.append(_end(table, starts[-1]))
    existing = await existing_partitions(pool, table)
    missing = [start for start in starts if _name(table, start) not in existing]
    if missing and (first := await end_of_before(pool, table)) is not None:
        missing = [start for start in missing if start >= first]
    if not missing:
        return []

    async def create() -> list[str]:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK)
            await wait_briefly(connection)
            if table.refers_to:
                lock = f"LOCK TABLE {table.refers_to} IN SHARE ROW EXCLUSIVE MODE"
                await connection.execute(lock)
            # No row may come into the default partition between the look at it and the creation.
            await connection.execute(f"LOCK TABLE ONLY {table.name} IN ACCESS EXCLUSIVE MODE")
            existing = await existing_partitions(connection, table)
            wanted = [start for start in missing if _name(table, start) not in existing]
            return [
                _name(table, start) for start in wanted if await _create(connection, table, start)
            ]

    return await briefly(create)


async def drop_ended(
    pool: Pool, before: datetime, table: PartitionedTable = PRICE_CHANGES, *, batch: int = 50_000
) -> list[str]:
    """Drop the partitions of months that ended before `before`, and old rows of the default one.

    Returns the names of the dropped partitions. A month is kept until all of it is old enough, and
    until the next time if others hold it for long.
    """
    dropped: list[str] = []
    for name in await ended_before(pool, before, table):
        try:
            await briefly(lambda name=name: _drop(pool, table, name))
        except LOCKED as error:
            _log.warning("months.kept", name=name, error=str(error))
        else:
            dropped.append(name)
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
    names = await existing_partitions(pool, table)
    return sorted(name for name in names if _ended(table, name, before))


async def existing_partitions(pool: Pool | Connection, table: PartitionedTable) -> set[str]:
    """Return the names of all partitions of the table."""
    return {row["relname"] for row in await pool.fetch(_PARTITIONS, table.name)}


async def end_of_before(pool: Pool, table: PartitionedTable) -> datetime | None:
    """Return the end of the partition `<name>_before`; None if there is none."""
    return await pool.fetchval(_END_OF_BEFORE, table.name)


def start_of(table: PartitionedTable, name: str) -> datetime | None:
    """Return the first instant of a partition by its name; None if it is not one of a time."""
    try:
        return datetime.strptime(name, f"{table.name}_{_format(table)}").replace(tzinfo=UTC)
    except ValueError:
        return None


async def _drop(pool: Pool, table: PartitionedTable, name: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await wait_briefly(connection)
        if table.before_drop:
            where = f"tableoid = '{name}'::regclass"
            await connection.execute(table.before_drop.format(where=where))
        await connection.execute(f'DROP TABLE IF EXISTS "{name}"')


def _format(table: PartitionedTable) -> str:
    return "%Y_%m_%d" if table.daily else "%Y_%m"


def _name(table: PartitionedTable, start: datetime) -> str:
    return f"{table.name}_{start.strftime(_format(table))}"


def _start(table: PartitionedTable, at: datetime) -> datetime:
    return day_start(at) if table.daily else month_start(at)


def _end(table: PartitionedTable, start: datetime) -> datetime:
    return start + timedelta(days=1) if table.daily else next_month(start)


def _ended(table: PartitionedTable, name: str, before: datetime) -> bool:
    start = start_of(table, name)
    return start is not None and _end(table, start) <= before


async def _create(connection: Connection, table: PartitionedTable, start: datetime) -> bool:
    """Create one partition; returns False if the default one has rows that cannot be moved."""
    name, end = _name(table, start), _end(table, start)
    in_default = _IN_DEFAULT.format(name=table.name, column=table.column)
    kept = await connection.fetchval(in_default, start, end, table.may_move + 1)
    if kept > table.may_move:
        return False
    since, until = f"{start:%Y-%m-%d}+00", f"{end:%Y-%m-%d}+00"
    if kept:
        # Not seen by the trigger that counts ticks as they are decided: it is the parent's.
        await connection.execute(
            _TAKE_OUT.format(name=table.name, column=table.column, since=since, until=until)
        )
    await connection.execute(
        f'CREATE TABLE "{name}" PARTITION OF {table.name}'
        f" FOR VALUES FROM ('{since}') TO ('{until}')"
    )
    if table.secured:
        await connection.execute(_SECURE.format(name=name))
    if kept:
        await connection.execute(f'INSERT INTO "{name}" SELECT * FROM moved; DROP TABLE moved')  # noqa: S608 - our own name
    return True
