"""What earlier runs found of a source, for the comparison with the last one."""

from datetime import timedelta

from app.coverage import unpacked
from app.expectations import FARTHEST, Found
from app.store.db import Pool
from app.store.runs import Claimed

REMEMBERED = timedelta(days=28)

# Only runs that were asked for the same and met their expectations: what is wrong for long must
# not become what is usual.
HISTORY = """
SELECT s.records, s.rejected, s.coverage
FROM runs this
JOIN runs r ON r.job = this.job AND r.org_id IS NOT DISTINCT FROM this.org_id
           AND r.params = this.params AND r.execution_id <> this.execution_id
JOIN run_sources s ON s.execution_id = r.execution_id AND s.source = $2
WHERE this.execution_id = $1 AND r.created_at > this.created_at - $3::interval
  AND s.status = 'success' AND s.coverage ? 'rows' AND NOT s.coverage ? 'breach'
ORDER BY r.created_at DESC LIMIT $4
"""


async def found(pool: Pool, claimed: Claimed, source: str) -> list[Found]:
    """What good runs before this one found of the source, newest first, 40 at most."""
    rows = await pool.fetch(HISTORY, claimed.run_id, source, REMEMBERED, FARTHEST)
    return [Found(row["records"], row["rejected"], unpacked(row["coverage"])) for row in rows]
