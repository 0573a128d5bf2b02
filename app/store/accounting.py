"""What the running proof counts: ticks and gaps of each wording, within a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.db import Pool

STRETCHES = """
WITH stretches AS (
  SELECT v.schedule_id, v.version, v.spec, greatest(v.effective_from, $1) AS after,
         least(coalesce(v.answers_until, s.evaluated_through), s.evaluated_through) AS until
  FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id
  WHERE s.org_id IS NULL
)
SELECT w.spec, w.after, w.until,
       (SELECT count(*) FROM ticks t WHERE t.schedule_id = w.schedule_id
          AND t.version = w.version AND t.scheduled_for > w.after AND t.scheduled_for <= w.until),
       g.firsts, g.lasts
FROM stretches w
LEFT JOIN LATERAL (
  SELECT array_agg(first_tick ORDER BY first_tick) AS firsts,
         array_agg(last_tick ORDER BY first_tick) AS lasts
  FROM tick_gaps t WHERE t.schedule_id = w.schedule_id AND t.version = w.version
    AND t.last_tick > w.after AND t.first_tick <= w.until) g ON true
WHERE w.after < w.until
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One wording within the window: its ticks in (after, until], and the gaps that touch it."""

    spec: dict[str, Any]
    after: datetime
    until: datetime
    ticks: int
    gaps: Sequence[tuple[datetime, datetime]]


async def stretches(pool: Pool, since: datetime) -> list[Stretch]:
    """Every wording of the built-in schedules that answers for something after `since`."""
    rows = await pool.fetch(STRETCHES, since)
    return [_stretch(tuple(row)) for row in rows]


def _stretch(row: tuple[Any, ...]) -> Stretch:
    gaps = tuple(zip(row[4] or (), row[5] or (), strict=True))
    return Stretch(row[0], row[1], row[2], row[3], gaps)
