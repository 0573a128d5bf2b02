"""An organisation sees its own rows, whatever it asks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from app.store import db, tenancy
from app.store.content import partitions
from app.store.db import Connection, Pool
from tests.orgs.furnishing import NOW, TABLES, furnish, furnish_rows


async def count(connection: Connection | Pool, table: str, where: str = "true") -> int:
    return await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")  # noqa: S608 - names of our own


@pytest.mark.parametrize("table", TABLES)
async def test_an_organisation_sees_no_row_of_another_even_if_it_asks_for_all(
    pool: Pool, table: str
) -> None:
    ours = await furnish(pool, "Ours")
    await furnish(pool, "Theirs")
    built_in = 2 if table == "collection_presets" else 0

    async with tenancy.org_transaction(pool, ours) as connection:
        seen = await count(connection, table)

    assert seen == 1 + built_in
    assert await count(pool, table) == 2 + built_in


@pytest.mark.parametrize("table", TABLES)
async def test_a_connection_that_says_nothing_sees_no_organisations_rows(
    pool: Pool, dsn: str, table: str
) -> None:
    await furnish(pool, "Ours")
    built_in = 2 if table == "collection_presets" else 0
    stranger = await asyncpg.connect(dsn)

    try:
        seen = await count(stranger, table)
    finally:
        await stranger.close()

    assert seen == built_in


async def test_a_connection_that_cannot_begin_with_more_is_narrowed_all_the_same(
    pool: Pool, dsn: str
) -> None:
    ours = await furnish(pool, "Ours")
    await furnish(pool, "Theirs")
    narrow = tenancy.NARROW.format(org_id=ours)
    plain = await asyncpg.connect(dsn, server_settings=db.OPERATOR_SESSION)
    try:
        async with db.begun_with(plain, narrow):
            on_plain = await count(plain, "organizations")
        async with (
            pool.acquire() as connection,
            connection.transaction(),
            db.begun_with(connection, narrow),
        ):
            nested = await count(connection, "organizations")
        after = await count(plain, "organizations")
    finally:
        await plain.close()

    assert (on_plain, nested, after) == (1, 1, 2)


@pytest.mark.parametrize("table", [t for t in TABLES if t != "organizations"])
async def test_an_organisation_can_neither_change_nor_delete_anothers_rows(
    pool: Pool, table: str
) -> None:
    ours = await furnish(pool, "Ours")
    await furnish(pool, "Theirs")
    before = await count(pool, table)

    async with tenancy.org_transaction(pool, ours) as connection:
        deleted = await connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own

    gone = before - await count(pool, table)
    assert gone == 1
    assert deleted == "DELETE 1"


async def test_an_organisation_cannot_write_a_row_for_another(pool: Pool) -> None:
    ours = await furnish(pool, "Ours")
    theirs = await furnish(pool, "Theirs")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with tenancy.org_transaction(pool, ours) as connection:
            await connection.execute("UPDATE items SET org_id = $1", theirs)

    assert await count(pool, "items", f"org_id = '{theirs}'") == 1


async def test_the_operator_is_itself_again_when_the_transaction_ends(dsn: str) -> None:
    from app.store.db import open_pool  # noqa: PLC0415 - a pool of one connection, this once

    narrow = await open_pool(dsn, size=1)
    try:
        ours = await furnish(narrow, "Ours")
        async with tenancy.org_transaction(narrow, ours):
            pass

        assert await count(narrow, "items") == 1
    finally:
        await narrow.close()


async def test_every_table_with_an_organisation_forces_row_level_security(pool: Pool) -> None:
    rows = await pool.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id'"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
    )

    assert rows
    assert [row["relname"] for row in rows if not row["forced"]] == []


async def test_row_level_security_holds_for_the_role_of_the_operator(pool: Pool) -> None:
    assert await tenancy.rls_enforced(pool)


# Tables without rows of organisations: what sites publish, and what the operator alone reads.
SHARED_BY_ALL = {
    "alembic_version", "article_entities", "articles", "change_clock", "health_flips",
    "health_states", "metric_pending", "metric_totals", "news_cursors",
    "odds_boards", "odds_event_changes", "odds_events", "odds_price_changes", "odds_prices",
    "source_usage",
    "stories", "story_entities", "story_sentiment", "story_updates", "trends",
    "worker_beats", "zone_data",
}  # fmt: skip


async def test_every_table_is_under_row_level_security_or_listed_as_shared(pool: Pool) -> None:
    rows = await pool.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
        " WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = 'public'::regnamespace"
    )

    assert {row["relname"] for row in rows if not row["forced"]} == SHARED_BY_ALL


# Of three rows of each table (our own, another organisation's, the operator's): how many an
# organisation sees, how many it may write, and how many are kept from the operator.
OWN_ROWS = (1, 1, 0)
ACCESS = dict.fromkeys(TABLES, OWN_ROWS) | {
    "collection_presets": (1 + 1 + 2, 1, 0),  # the built-in ones are for all to see
    "raw_bodies": (1, 0, 0),
}


# By its own name, a partition has rows for the operator only.
PARTS = dict.fromkeys(("ticks_rest", "changes_rest"), (0, 0, 0))


async def access(connection: Connection, org: UUID, table: str, rows: int) -> tuple[int, int, int]:
    """How many rows of the table the organisation sees and writes, and the operator does not."""
    column = await connection.fetchval(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum = 1", table
    )
    write = f"UPDATE {table} SET {column} = {column}"  # noqa: S608 - names of our own
    async with undone(connection):
        by_operator = await connection.execute(write)
    async with undone(connection):
        await connection.execute(tenancy.NARROW.format(org_id=org))
        seen = await count(connection, table)
        written = await connection.execute(write)
    return seen, _rows(written), rows - _rows(by_operator)


def _rows(tag: str) -> int:
    return int(tag.removeprefix("UPDATE "))


@asynccontextmanager
async def undone(connection: Connection) -> AsyncGenerator[None]:
    """A transaction that is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def test_every_table_under_row_level_security_has_its_decision(pool: Pool) -> None:
    ours = await furnish(pool, "Ours")
    await furnish(pool, "Theirs")
    await furnish_rows(pool, None, None)
    secured = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relrowsecurity"
        " AND NOT relispartition AND relnamespace = 'public'::regnamespace"
    )

    async with pool.acquire() as connection:
        found = {
            row[0]: await access(connection, ours, row[0], await count(connection, row[0]))
            for row in secured
        }

    assert found == ACCESS


async def test_every_partition_is_closed_to_organisations_by_its_own_name(pool: Pool) -> None:
    for table in (partitions.TICKS, partitions.CHANGES):
        await partitions.create_upcoming(pool, NOW, table)
    await furnish(pool, "Theirs")
    ours = await furnish(pool, "Ours")
    parts = await pool.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced, p.relname AS whole"
        " FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_class p ON p.oid = inhparent"
        " WHERE p.relkind = 'p' AND p.relrowsecurity"
    )

    async with pool.acquire() as connection:
        found = {
            part["relname"]: await access(
                connection, ours, part["relname"], await count(connection, part["relname"])
            )
            for part in parts
        }

    assert {part["whole"] for part in parts} == {"ticks", "changes"}
    assert all(part["forced"] for part in parts)
    assert found == dict.fromkeys(found, (0, 0, 0))
    assert await count(pool, f"ticks_{NOW:%Y_%m_%d}") == 2


async def test_postgres_expects_many_rows_under_each_policy(pool: Pool) -> None:
    """It expects one row in 200 where a subquery is compared, and then sorts whole tables."""
    compared = [
        f"{row['tablename']}.{row['policyname']}"
        for row in await pool.fetch("SELECT * FROM pg_policies WHERE schemaname = 'public'")
        if " = 'on'::text))" not in (row["qual"] or row["with_check"])
    ]

    assert compared == []


async def test_dropping_any_one_policy_or_its_enforcement_is_noticed(pool: Pool) -> None:
    ours = await furnish(pool, "Ours")
    await furnish(pool, "Theirs")
    await furnish_rows(pool, None, None)
    expected = ACCESS | PARTS
    policies = await pool.fetch(
        "SELECT tablename, policyname FROM pg_policies WHERE tablename = ANY ($1)", list(expected)
    )
    changes = [(table, f"DROP POLICY {policy} ON {table}") for table, policy in policies]
    for table in expected:
        changes.append((table, f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"))
        changes.append((table, f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"))

    unnoticed: list[str] = []
    rows = {table: await count(pool, table) for table in expected}
    async with pool.acquire() as connection:
        for table, change in changes:
            async with undone(connection):
                await connection.execute(change)
                if await access(connection, ours, table, rows[table]) == expected[table]:
                    unnoticed.append(change)

    assert len(policies) >= len(expected)
    assert unnoticed == []


KEEP_PAGE = """
INSERT INTO raw_pages (execution_id, source, page, url, status, fetched_at, body_hash)
SELECT execution_id, 's', 1, 'u', 200, now(), keep_raw_body($2, $3, 1, now())
FROM runs WHERE org_id = $1
"""
REMEMBER = """
INSERT INTO page_validators (fingerprint, source, body_hash, full_fetched_at, keys, refused,
                             prices, rejected)
VALUES ($1, 's', $2, now(), '{}', '{}', 0, 0)
"""


async def test_an_organisation_reads_the_bodies_and_validators_of_its_own_pages_only(
    pool: Pool,
) -> None:
    ours, theirs = await furnish(pool, "Ours"), await furnish(pool, "Theirs")
    await pool.execute("DELETE FROM page_validators")
    await pool.execute("DELETE FROM raw_pages")
    await pool.execute("DELETE FROM raw_bodies")
    for org, own in ((ours, b"ours"), (theirs, b"theirs")):
        async with tenancy.org_transaction(pool, org) as connection:
            for body in (own, b"same"):  # the second one is stored by the other already
                await connection.execute(KEEP_PAGE, org, body, body)
            await connection.execute(REMEMBER, own, own)

    async with tenancy.org_transaction(pool, ours) as connection:
        bodies = await connection.fetch("SELECT body FROM raw_bodies")
        validators = await connection.fetch("SELECT fingerprint, org_id FROM page_validators")
        changed = await connection.execute("UPDATE raw_bodies SET body = 'x'")

    assert {row["body"] for row in bodies} == {b"ours", b"same"}
    assert [tuple(row) for row in validators] == [(b"ours", ours)]
    assert changed == "UPDATE 0"
    assert await pool.fetchval("SELECT count(*) FROM raw_bodies") == 3
