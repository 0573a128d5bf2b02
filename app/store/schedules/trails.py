"""Compression of ticks: the newest ones of a schedule become a gap if many in a row are alike."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from asyncpg import Record

from app.store.db import Connection
from app.store.schedules.decisions import TickWrite, write_gaps
from app.store.schedules.schedule_rows import ScheduleState

# The trail of each schedule: its newest ticks with the same outcome, back to a different outcome
# or a gap. Returns those to be compressed: longer than $5, or right after a gap of their kind.
# No partition before $6 is read: those whose trail may begin before it are returned as `cut`.
TRAILS = """
SELECT a.schedule_id, trail.count, trail.first_tick, trail.last_tick, gap.first_tick AS gap,
       a.version, a.outcome, a.reason, coalesce(edge.at, '0001-01-01Z') < $6 AS cut
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[])
       AS a (schedule_id, outcome, reason, version)
CROSS JOIN LATERAL (
  SELECT greatest(
    (SELECT scheduled_for FROM ticks t
     WHERE t.schedule_id = a.schedule_id AND t.scheduled_for > $6
       AND (t.outcome, t.reason, t.version) IS DISTINCT FROM (a.outcome, a.reason, a.version)
     ORDER BY scheduled_for DESC LIMIT 1),
    (SELECT last_tick FROM tick_gaps g
     WHERE g.schedule_id = a.schedule_id ORDER BY first_tick DESC LIMIT 1)
  ) AS at
) AS edge
CROSS JOIN LATERAL (
  SELECT count(*) AS count, min(scheduled_for) AS first_tick, max(scheduled_for) AS last_tick
  FROM ticks t
  WHERE t.schedule_id = a.schedule_id AND t.scheduled_for > $6
    AND t.scheduled_for > coalesce(edge.at, '-infinity')
) AS trail
LEFT JOIN tick_gaps gap
  ON gap.schedule_id = a.schedule_id AND gap.last_tick = edge.at
 AND (gap.outcome, gap.reason, gap.version) = (a.outcome, a.reason, a.version)
WHERE coalesce(edge.at, '0001-01-01Z') < $6
   OR (trail.count > 0 AND (gap.first_tick IS NOT NULL OR trail.count > $5))
"""

# Fifty ticks of an hourly schedule are within it; less frequent ones ask a second time.
LOOK_BACK = timedelta(days=3)
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)  # as in TRAILS, for no edge

# The gap at the end of a trail takes the trail in.
EXTEND_GAPS = """
UPDATE tick_gaps g SET last_tick = x.last_tick, count = g.count + x.count
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bigint[])
       AS x (schedule_id, first_tick, last_tick, count)
WHERE g.schedule_id = x.schedule_id AND g.first_tick = x.first_tick
"""

# The ticks that a gap now stands for.
DROP_TRAILS = """
DELETE FROM ticks t
USING unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[])
        AS x (schedule_id, first_tick, last_tick)
WHERE t.schedule_id = x.schedule_id AND t.scheduled_for BETWEEN x.first_tick AND x.last_tick
"""


async def compress(
    connection: Connection,
    lasts: Sequence[tuple[ScheduleState, TickWrite]],
    now: datetime,
    threshold: int,
) -> None:
    """Compress the newest ticks into a gap where more than `threshold` in a row are alike."""
    if not lasts:
        return
    recent = min(tick.scheduled_for for _, tick in lasts) - LOOK_BACK
    trails = await _trails(connection, lasts, threshold, recent)
    cut = {trail["schedule_id"] for trail in trails if trail["cut"]}
    if cut:
        trails = [trail for trail in trails if not trail["cut"]]
        trails += await _trails(
            connection, [one for one in lasts if one[0].id in cut], threshold, BEGINNING
        )
    if not trails:
        return
    extended = [(t[0], t[4], t[3], t[1]) for t in trails if t["gap"] is not None]
    new = [(t[0], t[2], t[3], t[1], t[5], t[6], t[7]) for t in trails if t["gap"] is None]
    if extended:
        await connection.execute(EXTEND_GAPS, *map(list, zip(*extended, strict=True)))
    await write_gaps(connection, new, now)
    dropped = zip(*((t[0], t[2], t[3]) for t in trails), strict=True)
    await connection.execute(DROP_TRAILS, *map(list, dropped))


async def _trails(
    connection: Connection,
    lasts: Sequence[tuple[ScheduleState, TickWrite]],
    threshold: int,
    since: datetime,
) -> list[Record]:
    return await connection.fetch(
        TRAILS,
        [state.id for state, _ in lasts],
        [tick.outcome.value for _, tick in lasts],
        [tick.reason and tick.reason.value for _, tick in lasts],
        [state.version for state, _ in lasts],
        threshold,
        since,
    )
