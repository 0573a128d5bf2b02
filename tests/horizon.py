"""Waiting until what was committed is in the feed of changes."""

from app.store.db import Pool
from tests.wait import until


async def settled(pool: Pool) -> None:
    """Wait until no transaction is open that is older than this one, in any test's database."""
    now: int = await pool.fetchval("SELECT pg_current_xact_id()::text::bigint")

    async def passed() -> bool:
        return await pool.fetchval(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > $1", now
        )

    await until(passed, 30, "older transactions")
