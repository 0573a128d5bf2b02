"""Statements that replace a day's ticks by numbers and drop its partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from app.store.content import partitions
from app.store.content.partitions import TICKS
from app.store.db import Connection, Pool
from app.store.schedules import zones

SCAN_SECONDS = 900.0  # for reading a partition, which no lock of others waits for

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)

# One scan of the partition, which nobody but the operator may read by its name.
TALLY = """
SELECT schedule_id, version, concat_ws(':', outcome, reason), count
FROM (SELECT schedule_id, version, outcome, reason, count(*) FROM "{name}" GROUP BY 1, 2, 3, 4)
  AS counted
"""

# Schedules whose ticks up to the end of the day may still change, or are not all in the partition:
# those that are decided up to before its end only, whose last tick stays besides, those with a gap,
# which may take ticks in, and those with ticks of earlier days. Only the first may get more.
UNSETTLED = """
SELECT id, retired_at IS NULL AS open FROM schedules WHERE evaluated_through < $2
UNION SELECT schedule_id, false FROM tick_gaps WHERE first_tick < $2
UNION SELECT schedule_id, false FROM ticks WHERE scheduled_for < $1
"""

# All versions of the counted schedules: also one without ticks in the partition gets its numbers.
VERSIONS = """
SELECT schedule_id, version, spec, zone_data, effective_from, answers_until, pruned_through
FROM schedule_versions WHERE schedule_id = ANY ($1::bigint[]) ORDER BY schedule_id, version
"""

# Not if the version's ticks were pruned meanwhile: the numbers would be of other rows.
ADD_NUMBERS = """
UPDATE schedule_versions v SET
  pruned_through = greatest(v.pruned_through, c.through),
  pruned_expected = v.pruned_expected + c.expected,
  pruned = v.pruned || coalesce((
    SELECT jsonb_object_agg(key, coalesce((v.pruned ->> key)::bigint, 0) + value::bigint)
    FROM jsonb_each_text(c.recorded)), '{}')
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::bigint[],
            $6::jsonb[])
       AS c (schedule_id, version, pruned_through, through, expected, recorded)
WHERE v.schedule_id = c.schedule_id AND v.version = c.version
  AND v.pruned_through IS NOT DISTINCT FROM c.pruned_through
"""

# Whether something that was counted has changed: fewer versions than expected, or a new gap.
CHANGED = """
SELECT (SELECT count(*) FROM unnest($1::bigint[]) AS c (id) JOIN schedules s ON s.id = c.id) <> $2
    OR EXISTS (SELECT FROM tick_gaps WHERE schedule_id = ANY ($1::bigint[]) AND first_tick < $3)
"""

# Ticks that must stay are copied before their partition is dropped, and then inserted again.
KEEP = 'CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM "{name}" WITH NO DATA'
KEEP_ROWS = 'INSERT INTO kept SELECT * FROM "{name}" WHERE schedule_id = ANY ($1::bigint[])'

# Only these schedules can have a version to fold, which takes a row lock for each.
SEVERAL_VERSIONS = """
SELECT schedule_id FROM schedule_versions WHERE schedule_id = ANY ($1::bigint[])
GROUP BY schedule_id HAVING count(*) > 1
"""


@dataclass(frozen=True, slots=True)
class CountedVersion:
    """A version of a schedule, and how many ticks of each outcome and reason a partition has of it.

    `pruned_through`: up to where its ticks were numbers already.
    """

    schedule_id: int
    version: int
    spec: Mapping[str, Any]
    zone_data: str | None
    effective_from: datetime
    answers_until: datetime | None
    pruned_through: datetime | None
    recorded: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class CountedDay:
    """The ticks of a partition, by version, of the schedules to which nothing will be added.

    `slow`: the others that have ticks in it; `open`: those that may still get some.
    """

    name: str
    since: datetime
    until: datetime
    versions: Sequence[CountedVersion]
    slow: frozenset[int]
    open: frozenset[int]

    @property
    def rows(self) -> int:
        return sum(count for version in self.versions for count in version.recorded.values())


async def ended(pool: Pool, before: datetime) -> list[tuple[str, datetime, datetime]]:
    """Return the partitions that end at or before `before`, oldest first: name, start and end."""
    found = [
        (start, start + timedelta(days=1), name)
        for name in await partitions.ended_before(pool, before, TICKS)
        if (start := partitions.start_of(TICKS, name)) is not None
    ]
    first_day = await partitions.end_of_before(pool, TICKS)
    if first_day is not None and first_day <= before:
        found.append((BEGINNING, first_day, f"{TICKS.name}_before"))
    return [(name, since, until) for since, until, name in sorted(found)]


async def count(pool: Pool, name: str, since: datetime, until: datetime) -> CountedDay:
    """Count the ticks of one partition, in one snapshot of the database."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await lock_days(connection)
        found: dict[int, dict[int, dict[str, int]]] = {}
        tally = TALLY.format(name=name)
        for schedule_id, version, ending, rows in await connection.fetch(
            tally, timeout=SCAN_SECONDS
        ):
            found.setdefault(schedule_id, {}).setdefault(version, {})[ending] = rows
        unsettled = await connection.fetch(UNSETTLED, since, until)
        slow = found.keys() & {row["id"] for row in unsettled}
        settled = sorted(found.keys() - slow)
        versions = [
            CountedVersion(*row, recorded=found[row["schedule_id"]].get(row["version"], {}))
            for row in await connection.fetch(VERSIONS, settled)
        ]
        await zones.ensure(connection, ((one.spec, one.zone_data) for one in versions))
    still_open = frozenset(row["id"] for row in unsettled if row["open"])
    return CountedDay(name, since, until, versions, frozenset(slow), still_open)


async def lock_days(connection: Connection) -> None:
    """Keep all partitions of ticks until the end of the transaction.

    Must be its first statement if it reads in one snapshot: one that is older than the removal of a
    partition would show neither its ticks nor their numbers.
    """
    await connection.execute("LOCK TABLE ONLY ticks IN ACCESS SHARE MODE")


async def drop(
    pool: Pool, day: CountedDay, numbers: Sequence[tuple[CountedVersion, datetime | None, int]]
) -> bool:
    """Replace a day's ticks by numbers and drop its partition, in one transaction.

    `numbers`: each version, up to where its ticks become numbers, and how many it should have.
    Returns False, and has changed nothing, if what was counted has changed since. Ticks that must
    stay move into the default partition. Raises one of LOCKED.
    """
    rows = [
        (one.schedule_id, one.version, one.pruned_through, through, expected, one.recorded)
        for one, through, expected in numbers
    ]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 6
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await partitions.wait_briefly(connection)
            tag = await connection.execute(ADD_NUMBERS, *columns, timeout=SCAN_SECONDS)
            # From here on nothing is decided, for milliseconds.
            await connection.execute("LOCK TABLE ONLY ticks IN ACCESS EXCLUSIVE MODE")
            updated = int(tag.removeprefix("UPDATE "))
            changed = await connection.fetchval(CHANGED, columns[0], updated, day.until)
            if not changed:
                await _replace_by_kept(connection, day)
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if changed else transaction.commit())
        return not changed


async def _replace_by_kept(connection: Connection, day: CountedDay) -> None:
    await connection.execute(KEEP.format(name=day.name))
    await connection.execute(KEEP_ROWS.format(name=day.name), list(day.slow | day.open))
    await connection.execute(f'DROP TABLE "{day.name}"')
    # Not through the parent, whose trigger counts ticks as they are decided.
    await connection.execute("INSERT INTO ticks_rest SELECT * FROM kept")


async def with_several_versions(pool: Pool, schedule_ids: Sequence[int]) -> list[int]:
    """Return those of these schedules that have more than one version."""
    return [row[0] for row in await pool.fetch(SEVERAL_VERSIONS, schedule_ids)]
