"""Statements for articles and entity cursors. Only new or changed rows are written."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from app.core.records import Article
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection, Pool

# An unchanged article is not written, nor is one of a page that was fetched before the page that
# wrote it last, as a replay may read it. Rows are written in id order everywhere, so that two runs
# on the same articles cannot deadlock.
ARTICLES = """
WITH given AS (
  SELECT * FROM jsonb_to_recordset($1) AS g (
    provider text, article_id text, url text, title text, summary text, source text, domain text,
    language text, country text, published_at timestamptz, sentiment int, categories text[],
    keywords text[], entities jsonb)
), moved AS (
  INSERT INTO articles AS a (provider, article_id, url, title, summary, source, domain, language,
                             country, published_at, sentiment, categories, keywords, entities,
                             first_seen_at, updated_at, run_id)
  SELECT g.*, $2, $2, $3 FROM given g ORDER BY provider, article_id
  ON CONFLICT (provider, article_id) DO UPDATE SET
    url = excluded.url, title = excluded.title, summary = excluded.summary,
    source = excluded.source, domain = excluded.domain, language = excluded.language,
    country = excluded.country, published_at = excluded.published_at,
    sentiment = excluded.sentiment, categories = excluded.categories,
    keywords = excluded.keywords, entities = excluded.entities,
    updated_at = excluded.updated_at, run_id = excluded.run_id
  WHERE (a.url, a.title, a.summary, a.source, a.domain, a.language, a.country, a.published_at,
         a.sentiment, a.categories, a.keywords, a.entities)
        IS DISTINCT FROM
        (excluded.url, excluded.title, excluded.summary, excluded.source, excluded.domain,
         excluded.language, excluded.country, excluded.published_at, excluded.sentiment,
         excluded.categories, excluded.keywords, excluded.entities)
    AND a.updated_at <= excluded.updated_at
  RETURNING xmax = 0 AS new_row
)
SELECT count(*) FILTER (WHERE new_row) AS inserted, count(*) FILTER (WHERE NOT new_row) AS changed
FROM moved
"""

# A separate statement, because its snapshot includes articles that another run just committed.
LINKS = """
INSERT INTO article_entities (article_id, entity, first_seen_at, run_id)
SELECT a.id, g.entity, $2, $3
FROM jsonb_to_recordset($1) AS g (provider text, article_id text, entity text)
JOIN articles a USING (provider, article_id)
ORDER BY a.id
ON CONFLICT DO NOTHING
"""

# All entities of a source in one statement, by the primary key.
CURSORS = "SELECT entity, cursor FROM news_cursors WHERE source = $1 AND entity = ANY ($2::text[])"

# A cursor only moves forward: two runs that overlap leave the later one.
MOVE = """
INSERT INTO news_cursors AS c (source, entity, cursor, run_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (source, entity) DO UPDATE SET cursor = excluded.cursor, run_id = excluded.run_id
WHERE c.cursor < excluded.cursor
"""


async def write(
    connection: Connection, articles: Sequence[Article], now: datetime, run_id: UUID
) -> WriteCounts:
    """Write one page of articles, fetched at `now`. Writing it again changes nothing."""
    page = {(a.provider, a.article_id): a for a in articles}
    if not page:
        return WriteCounts()
    rows = [msgspec.to_builtins(article, enc_hook=dict) for article in page.values()]
    row = await connection.fetchrow(ARTICLES, rows, now, run_id)
    await connection.execute(LINKS, rows, now, run_id)
    inserted, changed = (row["inserted"], row["changed"]) if row else (0, 0)
    return WriteCounts(len(page), inserted, changed)


async def cursors(pool: Pool, source: str, entities: Collection[str]) -> dict[str, datetime]:
    """Return the cursor of each entity; entities that were never read are left out."""
    rows = await pool.fetch(CURSORS, source, list(entities))
    return {row["entity"]: row["cursor"] for row in rows}


async def move_cursor(
    connection: Connection, where: tuple[str, str], at: datetime, run_id: UUID
) -> None:
    """Move the cursor of an entity forward to `at`. `where`: source, entity."""
    await connection.execute(MOVE, *where, at, run_id)
