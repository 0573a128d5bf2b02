"""Rows of runs and schedules for the commands, and the text of what they print."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store.db import Pool

INSERT_RUN = """
INSERT INTO runs (execution_id, job, trigger, status, worker, created_at, queued_at, started_at,
                  completed_at, attempt, losses, max_attempts, timeout_seconds, lease_epoch)
VALUES ($1, 'scrape', $2, $3::text, $4, $5, $5, $5,
        CASE WHEN $3 <> 'running' THEN $5::timestamptz END, 1, 0, 3, 240, 0)
"""


async def now_of(pool: Pool) -> datetime:
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    return now


async def insert_run(
    pool: Pool,
    age: timedelta,
    *,
    trigger: str = "manual",
    status: str = "success",
    worker: str | None = None,
) -> UUID:
    run_id = uuid4()
    at = await now_of(pool) - age
    await pool.execute(INSERT_RUN, run_id, trigger, status, worker, at)
    return run_id


async def declare(pool: Pool, ago: timedelta) -> datetime:
    """Declare `scrape`, which is due every minute, as it was `ago`; return the instant."""
    now = await now_of(pool)
    every_minute = Schedule.every(60, anchor=EPOCH)
    declared = DeclaredSchedule("scrape", "scrape", every_minute, Policies())
    await edit.register(pool, [declared], now - ago)
    return now


def words_of(output: str) -> str:
    """The output without the frame that Typer draws, on one line."""
    return " ".join(output.replace("│", " ").split())
