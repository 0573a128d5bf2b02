"""Baselines of a source: what earlier runs found, to compare the present run with."""

from datetime import timedelta

from app.sources.coverage import from_json
from app.sources.expectations import BASELINE_END, SourceResult
from app.store.db import Pool
from app.store.runs.attempt_rows import ClaimedRun

MAX_AGE = timedelta(days=28)

# Only runs with the same parameters that met their expectations: a lasting fault must not become
# the baseline. `{same}` is one of three conditions, each of which has an index of its own that
# returns the newest runs first.
BASELINE = """
SELECT s.records, s.rejected, s.coverage
FROM runs this
JOIN runs r ON {same} AND r.params = this.params AND r.execution_id <> this.execution_id
JOIN run_sources s ON s.execution_id = r.execution_id AND s.source = $2
WHERE this.execution_id = $1 AND r.created_at > this.created_at - $3::interval
  AND s.status = 'success' AND s.coverage ? 'rows' AND NOT s.coverage ? 'breach'
ORDER BY r.created_at DESC LIMIT $4
"""
OF_SCHEDULE = BASELINE.format(same="r.schedule_id = this.schedule_id")
OF_ORG = BASELINE.format(same="r.org_id = this.org_id AND r.job = this.job")
OF_JOB = BASELINE.format(same="r.job = this.job AND r.org_id IS NULL")


async def baselines(pool: Pool, claimed: ClaimedRun, source: str) -> list[SourceResult]:
    """Return what good runs before this one found of the source, newest first, at most 40.

    Runs of the same schedule; for a manual run, of the same organisation and job.
    """
    statement = OF_ORG if claimed.org_id else OF_JOB
    statement = OF_SCHEDULE if claimed.schedule_key else statement
    rows = await pool.fetch(statement, claimed.run_id, source, MAX_AGE, BASELINE_END)
    return [
        SourceResult(row["records"], row["rejected"], from_json(row["coverage"])) for row in rows
    ]
