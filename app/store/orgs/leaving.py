"""Statements that count, export and delete everything that an organisation has in Postgres."""

from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

from app.store import tenancy
from app.store.db import Connection, Pool

BATCH_ROWS = 5_000
EXPORT_ROWS = 500

# Row-level security says what is the organisation's, so no table can be forgotten here.
TABLES = """
SELECT relname FROM pg_class
WHERE relrowsecurity AND NOT relispartition AND relkind IN ('r', 'p')
  AND relnamespace = 'public'::regnamespace
ORDER BY relname
"""
# The built-in presets are visible to all.
OWN_PRESETS = "SELECT count(*) FROM collection_presets WHERE org_id IS NOT NULL"
RUN_IDS = "SELECT execution_id FROM runs WHERE org_id = $1"
# Rows without an owner of their own that name the organisation ($1: its id), its schedules or its
# runs ($2): how they are counted, and how they are deleted.
ELSEWHERE = {
    "news_cursors": (
        "SELECT count(*) FROM news_cursors WHERE source LIKE $1 || '/%'",
        "DELETE FROM news_cursors WHERE source LIKE $1 || '/%'",
    ),
    "health_states": (
        "SELECT count(*) FROM health_states WHERE key LIKE 'collection:' || $1 || '%'",
        "DELETE FROM health_states WHERE key LIKE 'collection:' || $1 || '%'",
    ),
    "health_flips": (
        "SELECT count(*) FROM health_flips WHERE key LIKE 'collection:' || $1 || '%'",
        "DELETE FROM health_flips WHERE key LIKE 'collection:' || $1 || '%'",
    ),
    "notifications": (
        """
        SELECT count(*) FROM notifications
        WHERE org_id IS NULL AND position($1 IN title || ' ' || body) > 0
        """,
        """
        DELETE FROM notifications
        WHERE org_id IS NULL AND position($1 IN title || ' ' || body) > 0
        """,
    ),
    "metric_pending": (
        """
        SELECT count(*) FROM metric_pending
        WHERE execution_id = ANY ($2::uuid[]) AND $1 <> ''
        """,
        """
        DELETE FROM metric_pending
        WHERE execution_id = ANY ($2::uuid[]) AND $1 <> ''
        """,
    ),
}
# A batch of raw pages, and in the same transaction the bodies that no other page has.
PAGES = """
DELETE FROM raw_pages WHERE id IN (
  SELECT p.id FROM raw_pages p JOIN runs r USING (execution_id) WHERE r.org_id = $1 LIMIT $2)
RETURNING body_hash
"""
NO_LONGER_USED = """
DELETE FROM raw_bodies b WHERE b.hash = ANY ($1::bytea[])
  AND NOT EXISTS (SELECT FROM raw_pages p WHERE p.body_hash = b.hash)
"""
# The large tables, in batches of which each is a transaction; the rest goes with the organisation.
BATCHES = (
    """
    DELETE FROM rejected_records WHERE id IN (
      SELECT p.id FROM rejected_records p JOIN runs r USING (execution_id)
      WHERE r.org_id = $1 LIMIT $2)
    """,
    """
    DELETE FROM run_events WHERE id IN (
      SELECT p.id FROM run_events p JOIN runs r USING (execution_id) WHERE r.org_id = $1 LIMIT $2)
    """,
    "DELETE FROM items WHERE id IN (SELECT id FROM items WHERE org_id = $1 LIMIT $2)",
    """
    DELETE FROM runs WHERE execution_id IN (
      SELECT execution_id FROM runs WHERE org_id = $1 LIMIT $2)
    """,
    """
    DELETE FROM changes WHERE (position, id) IN (
      SELECT position, id FROM changes WHERE org_id = $1 LIMIT $2)
    """,
)


async def tables(connection: Pool | Connection) -> list[str]:
    """Return the tables with rows of organisations."""
    return [row["relname"] for row in await connection.fetch(TABLES)]


async def counts(pool: Pool, org_id: UUID, runs: Sequence[UUID]) -> dict[str, int]:
    """Return how many rows each table has of the organisation, without tables that have none.

    `runs`: the ids of its runs, also of those that were deleted.
    """
    found: dict[str, int] = {}
    async with tenancy.org_transaction(pool, org_id) as connection:
        for table in await tables(connection):
            own = table == "collection_presets"
            count = OWN_PRESETS if own else f"SELECT count(*) FROM {table}"  # noqa: S608 - from the catalogue
            found[table] = await connection.fetchval(count)
    for table, (statement, _) in ELSEWHERE.items():
        count = await pool.fetchval(statement, *_named(statement, org_id, runs))
        found[table] = found.get(table, 0) + count
    return {table: count for table, count in found.items() if count}


async def run_ids(pool: Pool, org_id: UUID) -> list[UUID]:
    """Return the ids of the organisation's runs."""
    return [row["execution_id"] for row in await pool.fetch(RUN_IDS, org_id)]


async def json_rows(pool: Pool, org_id: UUID, table: str) -> AsyncGenerator[list[str]]:
    """Yield the organisation's rows of a table as JSON, without hashes and encrypted secrets."""
    own = " WHERE org_id IS NOT NULL" if table == "collection_presets" else ""
    query = (
        "SELECT (to_jsonb(t) - ARRAY['hash', 'secret', 'ciphertext'])::text AS line"  # noqa: S608 - from the catalogue
        f" FROM {table} t{own}"
    )
    async with tenancy.org_transaction(pool, org_id) as connection:
        cursor = await connection.cursor(query)
        while rows := await cursor.fetch(EXPORT_ROWS):
            yield [row["line"] for row in rows]


async def delete(pool: Pool, org_id: UUID, runs: Sequence[UUID]) -> None:
    """Delete everything of the organisation. Safe to run again after it was interrupted."""
    while await _delete_pages(pool, org_id):
        pass
    for statement in BATCHES:
        while await pool.execute(statement, org_id, BATCH_ROWS) != "DELETE 0":
            pass
    for _, statement in ELSEWHERE.values():
        await pool.execute(statement, *_named(statement, org_id, runs))
    await pool.execute("DELETE FROM schedules WHERE org_id = $1", org_id)
    await pool.execute("DELETE FROM organizations WHERE id = $1", org_id)
    # Written by the statements above, or by a worker that had not noticed yet.
    await pool.execute("DELETE FROM changes WHERE org_id = $1", org_id)


async def _delete_pages(pool: Pool, org_id: UUID) -> int:
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(PAGES, org_id, BATCH_ROWS)
        await connection.execute(NO_LONGER_USED, [row["body_hash"] for row in rows])
    return len(rows)


def _named(statement: str, org_id: UUID, runs: Sequence[UUID]) -> list[object]:
    """The parameters that the statement uses, whose numbers begin with 1."""
    return [str(org_id), list(runs)] if "$2" in statement else [str(org_id)]
