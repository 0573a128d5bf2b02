"""What earlier runs found of a source, for the comparison with the last one."""

from datetime import timedelta

from app.coverage import unpacked
from app.expectations import FARTHEST, Found
from app.store.db import Pool
from app.store.runs import Claimed

REMEMBERED = timedelta(days=28)

THIS = "SELECT schedule_id, org_id, job FROM runs WHERE execution_id = $1"

# Only runs that were asked for the same and met their expectations: what is wrong for long must
# not become what is usual. Each way in has an index of its own, by which the newest come first.
HISTORY = """
SELECT s.records, s.rejected, s.coverage
FROM runs this
JOIN runs r ON {same} AND r.params = this.params AND r.execution_id <> this.execution_id
JOIN run_sources s ON s.execution_id = r.execution_id AND s.source = $2
WHERE this.execution_id = $1 AND r.created_at > this.created_at - $3::interval
  AND s.status = 'success' AND s.coverage ? 'rows' AND NOT s.coverage ? 'breach'
ORDER BY r.created_at DESC LIMIT $4
"""
OF_SCHEDULE = HISTORY.format(same="r.schedule_id = this.schedule_id")
OF_ORG = HISTORY.format(same="r.org_id = this.org_id AND r.job = this.job")
OF_JOB = HISTORY.format(same="r.job = this.job AND r.org_id IS NULL")


async def found(pool: Pool, claimed: Claimed, source: str) -> list[Found]:
    """What good runs before this one found of the source, newest first, 40 at most.

    Of its schedule; of a run asked for by hand, of those asked for likewise.
    """
    this = await pool.fetchrow(THIS, claimed.run_id)
    if this is None:
        return []
    statement = OF_ORG if this["org_id"] else OF_JOB
    statement = OF_SCHEDULE if this["schedule_id"] else statement
    rows = await pool.fetch(statement, claimed.run_id, source, REMEMBERED, FARTHEST)
    return [Found(row["records"], row["rejected"], unpacked(row["coverage"])) for row in rows]
