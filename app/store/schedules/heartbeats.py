"""Heartbeat intervals of workers, by the database's clock. The evidence for `scheduler_down`."""

from datetime import datetime

from app.store.db import Connection, Pool

# A new interval ends where it begins; its worker then extends it by the id returned.
INSERT_INTERVAL = """
INSERT INTO worker_beats (worker, since, until, jumped) VALUES ($1, $2, $2, $3) RETURNING id
"""


async def start_interval(pool: Pool, worker: str, now: datetime, *, jumped: bool = False) -> int:
    """Start a heartbeat interval and return its id.

    `jumped`: the clock jumped forward right before it.
    """
    return await pool.fetchval(INSERT_INTERVAL, worker, now, jumped)


async def extend_interval(pool: Pool, beat: int, now: datetime) -> bool:
    """Extend the interval to `now`; False if it does not exist, as after a failover."""
    tag = await pool.execute(
        "UPDATE worker_beats SET until = greatest(until, $2) WHERE id = $1", beat, now
    )
    return tag == "UPDATE 1"


async def database_now(pool: Pool | Connection) -> datetime:
    """Return the time of the database's clock, which is authoritative for all workers."""
    return await pool.fetchval("SELECT clock_timestamp()")
