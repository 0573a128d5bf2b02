"""Whether a job or a source was ever known to this database."""

from app.store.db import Connection, Pool

# A job by its schedule, or by a run of it without one.
JOB = """
SELECT EXISTS (SELECT FROM schedules WHERE key = $1) OR EXISTS (SELECT FROM runs WHERE job = $1)
"""
# A source by what it has contributed to a run.
SOURCE = "SELECT EXISTS (SELECT FROM run_sources WHERE source = $1)"


async def knows_job(connection: Pool | Connection, name: str) -> bool:
    """Return whether a schedule has this name, or a run is of this task."""
    return bool(await connection.fetchval(JOB, name))


async def knows_source(connection: Pool | Connection, name: str) -> bool:
    """Return whether a run has collected this source."""
    return bool(await connection.fetchval(SOURCE, name))
