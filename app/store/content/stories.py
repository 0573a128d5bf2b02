"""Statements for stories, their updates and sentiment. Only new or changed rows are written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.core.records import Story
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection

# As for articles: rows are written in id order; neither unchanged ones are written, nor those of a
# page that was fetched before the page that wrote the story last, as a replay may read it.
STORIES = """
WITH given AS (
  SELECT * FROM jsonb_to_recordset($1) AS g (
    provider text, story_uuid text, topic text, told_at timestamptz, categories text[],
    keywords text[], languages jsonb, countries jsonb)
), moved AS (
  INSERT INTO stories AS s (provider, story_uuid, topic, told_at, categories, keywords, languages,
                            countries, first_seen_at, updated_at, run_id)
  SELECT g.*, $2, $2, $3 FROM given g ORDER BY provider, story_uuid
  ON CONFLICT (provider, story_uuid) DO UPDATE SET
    topic = excluded.topic, told_at = excluded.told_at, categories = excluded.categories,
    keywords = excluded.keywords, languages = excluded.languages, countries = excluded.countries,
    updated_at = excluded.updated_at, run_id = excluded.run_id
  WHERE (s.topic, s.told_at, s.categories, s.keywords, s.languages, s.countries)
        IS DISTINCT FROM
        (excluded.topic, excluded.told_at, excluded.categories, excluded.keywords,
         excluded.languages, excluded.countries)
    AND s.updated_at <= excluded.updated_at
  RETURNING xmax = 0 AS new_row
)
SELECT count(*) FILTER (WHERE new_row) AS inserted, count(*) FILTER (WHERE NOT new_row) AS changed
FROM moved
"""

# A separate statement, as for articles: its snapshot includes stories that were just committed.
LINKS = """
INSERT INTO story_entities (story_id, entity, first_seen_at, run_id)
SELECT s.id, g.entity, $2, $3
FROM jsonb_to_recordset($1) AS g (provider text, story_uuid text, entity text)
JOIN stories s USING (provider, story_uuid)
ORDER BY s.id
ON CONFLICT DO NOTHING
"""

# An update that is as it was is not written again; rows are locked in a fixed order.
UPDATES = """
INSERT INTO story_updates AS u (story_id, update_uuid, at, headline, text, articles, run_id)
SELECT s.id, g.update_uuid, g.at, g.headline, g.text, g.articles, $2
FROM jsonb_to_recordset($1) AS g (provider text, story_uuid text, update_uuid text, at timestamptz,
                                  headline text, text text, articles int)
JOIN stories s USING (provider, story_uuid)
ORDER BY s.id, g.update_uuid
ON CONFLICT (story_id, update_uuid) DO UPDATE SET
  at = excluded.at, headline = excluded.headline, text = excluded.text,
  articles = excluded.articles, run_id = excluded.run_id
WHERE (u.at, u.headline, u.text, u.articles)
      IS DISTINCT FROM (excluded.at, excluded.headline, excluded.text, excluded.articles)
"""

# Counts only new points: a value that the provider corrected is written, but is not counted.
POINTS = """
WITH moved AS (
  INSERT INTO story_sentiment AS p (story_id, at, value, run_id)
  SELECT s.id, g.at, g.value, $2
  FROM jsonb_to_recordset($1) AS g (provider text, story_uuid text, at timestamptz, value float8)
  JOIN stories s USING (provider, story_uuid)
  ORDER BY s.id, g.at
  ON CONFLICT (story_id, at) DO UPDATE SET value = excluded.value, run_id = excluded.run_id
  WHERE p.value <> excluded.value
  RETURNING xmax = 0 AS new_row
)
SELECT count(*) FILTER (WHERE new_row) FROM moved
"""


async def write(
    connection: Connection, stories: Sequence[Story], now: datetime, run_id: UUID
) -> WriteCounts:
    """Write one page of stories, fetched at `now`. Writing the same page again changes nothing."""
    page = {(s.provider, s.story_uuid): s for s in stories}
    if not page:
        return WriteCounts()
    rows = [msgspec.to_builtins(story, enc_hook=dict) for story in page.values()]
    updates, points = _parts(rows, "updates"), _parts(rows, "sentiment")
    row = await connection.fetchrow(STORIES, rows, now, run_id)
    await connection.execute(LINKS, rows, now, run_id)
    await connection.execute(UPDATES, updates, run_id)
    new: int = await connection.fetchval(POINTS, points, run_id)
    inserted, changed = (row["inserted"], row["changed"]) if row else (0, 0)
    return WriteCounts(len(page), inserted, changed, points=new)


def _parts(rows: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Take the parts of that name out of the rows; returns them with the key of their story."""
    return [
        {"provider": row["provider"], "story_uuid": row["story_uuid"], **part}
        for row in rows
        for part in row.pop(name)
    ]
