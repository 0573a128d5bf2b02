"""When workers were alive, by the database's clock. The proof behind `scheduler_down`."""

from datetime import datetime

from app.store.db import Connection, Pool

OPEN = """
INSERT INTO worker_beats (worker, since, until, jumped) VALUES ($1, $2, $2, $3) RETURNING id
"""


async def begin(pool: Pool, worker: str, now: datetime, *, jumped: bool = False) -> int:
    """Open a stretch of beating; `jumped` if the clock leapt forward right before it."""
    beat: int = await pool.fetchval(OPEN, worker, now, jumped)
    return beat


async def extend(pool: Pool, beat: int, now: datetime) -> None:
    """Say that the stretch goes on until `now`."""
    await pool.execute(
        "UPDATE worker_beats SET until = greatest(until, $2) WHERE id = $1", beat, now
    )


async def database_now(pool: Pool | Connection) -> datetime:
    """The instant by the database's clock, which judges for all workers."""
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    return now
