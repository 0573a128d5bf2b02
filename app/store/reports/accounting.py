"""Queries for continuous tick accounting: ticks and gaps of each schedule version in a period."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.db import Pool
from app.store.schedules import zones

# One statement, hence one snapshot: a tick decided meanwhile is not counted without its frontier.
VERSION_SPANS = """
WITH spans AS (
  SELECT v.schedule_id, v.version, v.spec, v.zone_data, greatest(v.effective_from, $1) AS after,
         least(coalesce(v.answers_until, s.evaluated_through), s.evaluated_through) AS until
  FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id
  WHERE s.org_id IS NULL
)
SELECT w.spec, w.zone_data, w.after, w.until,
       (SELECT count(*) FROM ticks t WHERE t.schedule_id = w.schedule_id
          AND t.version = w.version AND t.scheduled_for > $1  -- no partition before it is read
          AND t.scheduled_for > w.after AND t.scheduled_for <= w.until),
       g.firsts, g.lasts
FROM spans w
LEFT JOIN LATERAL (
  SELECT array_agg(first_tick ORDER BY first_tick) AS firsts,
         array_agg(last_tick ORDER BY first_tick) AS lasts
  FROM tick_gaps t WHERE t.schedule_id = w.schedule_id AND t.version = w.version
    AND t.last_tick > w.after AND t.first_tick <= w.until) g ON true
WHERE w.after < w.until
"""


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """One schedule version within the period: its tick count in (after, until], and its gaps.

    `gaps`: (first tick, last tick) of each gap that overlaps the period.
    """

    spec: dict[str, Any]
    zone_data: str | None
    after: datetime
    until: datetime
    ticks: int
    gaps: Sequence[tuple[datetime, datetime]]


async def version_spans(pool: Pool, since: datetime) -> list[VersionSpan]:
    """Return the versions of built-in schedules that cover any time after `since`."""
    rows = await pool.fetch(VERSION_SPANS, since)
    spans: list[VersionSpan] = []
    for spec, stamp, after, until, ticks, firsts, lasts in rows:
        gaps = tuple(zip(firsts or (), lasts or (), strict=True))
        spans.append(VersionSpan(spec, stamp, after, until, ticks, gaps))
    await zones.ensure(pool, ((span.spec, span.zone_data) for span in spans))
    return spans
