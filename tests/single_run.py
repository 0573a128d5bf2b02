"""Claims and outcomes of single runs, which workers share the statements of."""

from datetime import datetime
from uuid import UUID

from app.store.db import Pool
from app.store.runs import attempt_rows
from app.store.runs.attempt_rows import Claim, ClaimedRun, RunEnding, Start
from app.store.runs.run_rows import RunRequest


async def claim(
    pool: Pool, run_id: UUID, worker: str, now: datetime, lease: float, *, suspects: bool = True
) -> ClaimedRun | None:
    """Claim the run with a lease of `lease` seconds."""
    (claimed,) = await attempt_rows.claim_all(pool, [Claim(run_id, worker, now, suspects)], lease)
    return claimed


async def start(
    pool: Pool, request: RunRequest, worker: str, now: datetime, lease: float, key: str
) -> ClaimedRun | None:
    """Record the manual run and claim it."""
    (started,) = await attempt_rows.start_all(pool, [Start(request, worker, now, key)], lease)
    return started


async def finish(pool: Pool, claimed: ClaimedRun, ending: RunEnding) -> bool:
    """Record the outcome; False if the attempt was fenced off."""
    (recorded,) = await attempt_rows.finish_all(pool, [(claimed, ending)])
    return recorded
