"""Statements for replays: kept pages, stored records to compare with, and the replay run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.messages import Partition, RawPage
from app.core.records import Article, Item, OddsEvent, Story
from app.store.content import pages
from app.store.content.items import for_owner
from app.store.db import Connection, Pool

ReplayedRecord = OddsEvent | Article | Story | Item


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """A kept page without its body. `refused`: some of its records were rejected."""

    id: int
    run_id: UUID
    partition: str
    expected: int | None
    page: int
    url: str
    status: int
    headers: Mapping[str, str]
    fetched_at: datetime
    body_hash: bytes
    refused: bool


# An unchanged page has no row of its own: its validator leads to the row of the page that first had
# its body, however old. Pages of organisations' runs are excluded.
PAGES = """
SELECT p.id, p.execution_id, p.partition, p.expected, p.page, p.url, p.status, p.headers,
       p.fetched_at, p.body_hash, EXISTS (
         SELECT FROM rejected_records r WHERE r.execution_id = p.execution_id
           AND r.source = p.source AND r.partition = p.partition AND r.page = p.page) AS refused
FROM raw_pages p JOIN runs o ON o.execution_id = p.execution_id AND o.org_id IS NULL
WHERE p.source = $1 AND p.partition IS NOT NULL AND (p.fetched_at >= $2 OR p.body_hash IN (
  SELECT v.body_hash FROM page_validators v WHERE v.source = $1))
ORDER BY p.fetched_at, p.id
"""

# Fields and prices as one JSON object per record, which is compared with what a parser returns.
ODDS = """
SELECT e.platform_event_id AS key, to_jsonb(e) - '{id,platform,platform_event_id,first_seen_at,
       updated_at,run_id,partition,absent_since,withdrawn_at,seen_at,seen_run_id,fingerprint}'::text[]
  || coalesce((SELECT jsonb_object_agg(concat_ws(' ', p.market, p.line, p.outcome),
                 concat(p.price, CASE WHEN p.active THEN '' ELSE ' (suspended)' END))
               FROM odds_prices p WHERE p.event_id = e.id AND p.price IS NOT NULL), '{}') AS fields
FROM odds_events e WHERE e.platform = $1 AND e.platform_event_id = ANY ($2::text[])
"""

# As ODDS: an article's entities are in a table of their own, and are one of its fields here.
ARTICLES = """
SELECT a.article_id AS key, to_jsonb(a) - '{id,provider,article_id,first_seen_at,updated_at,
       run_id}'::text[] || jsonb_build_object('found under', (
         SELECT jsonb_agg(n.entity ORDER BY n.entity) FROM article_entities n
         WHERE n.article_id = a.id)) AS fields
FROM articles a WHERE a.provider = $1 AND a.article_id = ANY ($2::text[])
"""

# As ODDS: entities, updates and sentiment are fields of the story here.
STORIES = """
SELECT s.story_uuid AS key, to_jsonb(s) - '{id,provider,story_uuid,first_seen_at,updated_at,
       run_id}'::text[] || jsonb_build_object(
         'found under', (SELECT jsonb_agg(n.entity ORDER BY n.entity) FROM story_entities n
                         WHERE n.story_id = s.id),
         'updates', (SELECT jsonb_agg(to_jsonb(u) - 'story_id' - 'run_id' ORDER BY u.update_uuid)
                     FROM story_updates u WHERE u.story_id = s.id),
         'sentiment', (SELECT jsonb_agg(to_jsonb(v) - 'story_id' - 'run_id' ORDER BY v.at)
                       FROM story_sentiment v WHERE v.story_id = s.id)) AS fields
FROM stories s WHERE s.provider = $1 AND s.story_uuid = ANY ($2::text[])
"""

# `{owner}` is one of two conditions, each of which the index can answer; see items.py.
ITEMS = """
SELECT i.key, i.data AS fields FROM items i
WHERE {owner} AND i.source = $2 AND i.key = ANY ($3::text[])
"""

# As ITEMS: when each was last seen, and whether it is missing.
ITEMS_SEEN = """
SELECT i.key, i.last_seen, i.missing_since IS NOT NULL FROM items i
WHERE {owner} AND i.source = $2 AND i.key = ANY ($3::text[])
"""

# When each event was last seen, as of which it is written, and whether it has left the site.
SEEN = """
SELECT platform_event_id, seen_at, absent_since IS NOT NULL OR withdrawn_at IS NOT NULL AS gone
FROM odds_events WHERE platform = $1 AND platform_event_id = ANY ($2::text[])
"""

# Lets the next complete listing of the partition detect the absence of these events.
ASSIGN_PARTITION = """
UPDATE odds_events SET partition = $2
WHERE platform = $1 AND platform_event_id = ANY ($3::text[]) AND partition IS NULL
"""

# Records that are still rejected stay, each recognised by its data.
DELETE_READABLE = """
DELETE FROM rejected_records WHERE execution_id = $1 AND source = $2 AND partition = $3
  AND page = $4 AND NOT (data = ANY ($5::bytea[]))
"""

# Without its validator, the next run parses the page, with the current parser.
DELETE_VALIDATORS = "DELETE FROM page_validators WHERE source = $1 AND body_hash = $2"

# The run begins as `cancelled`: a replay whose process dies needs nobody to end it.
BEGIN = """
INSERT INTO runs (execution_id, job, trigger, requested_by, params, status, attempt, losses,
                  max_attempts, timeout_seconds, lease_epoch, queued_at, started_at, completed_at,
                  duration_seconds, error_type, error_message, stats)
VALUES ($1, $2, 'replay', $3, $4, 'cancelled', 1, 0, 1, 0, 1, $5, $5, $5, 0, 'cancelled',
        'cut short; what it has written stays', '{}')
"""

# Only here does the run become successful, and lose the error with which it began.
END = """
UPDATE runs SET status = 'success', completed_at = $2, error_type = NULL, error_message = NULL,
                duration_seconds = extract(epoch FROM $2 - started_at), stats = $3
WHERE execution_id = $1
"""


async def pages_to_replay(pool: Pool, source: str, since: datetime) -> list[ReplayPage]:
    """Return the pages to replay, in the order of their fetching.

    Those fetched since `since`, and older ones that a validator still refers to.
    """
    return [ReplayPage(*row) for row in await pool.fetch(PAGES, source, since)]


async def load_page(pool: Pool | Connection, page: ReplayPage) -> RawPage | None:
    """Return the page as a parser receives it; None if retention has deleted its body."""
    body = await pages.load_body(pool, page.body_hash)
    if body is None:
        return None
    partition = Partition(page.partition, page.expected)
    return RawPage(body, page.status, page.url, page.headers, page.fetched_at, partition, page.page)


async def stored_fields(
    connection: Connection, records: Sequence[ReplayedRecord], org_id: UUID | None = None
) -> dict[str, dict[str, Any]]:
    """Return the stored fields of these records, prices among them, by key and name.

    Records of an organisation are items.
    """
    if not records:
        return {}
    query, provider, keys = _stored_query(records)
    if query is ITEMS:
        rows = await connection.fetch(for_owner(ITEMS, org_id), org_id, provider, keys)
    else:
        rows = await connection.fetch(query, provider, keys)
    return {row["key"]: row["fields"] for row in rows}


def _stored_query(records: Sequence[ReplayedRecord]) -> tuple[str, str, list[str]]:
    match records[0]:
        case OddsEvent(platform=provider):
            query = ODDS
        case Article(provider=provider):
            query = ARTICLES
        case Story(provider=provider):
            query = STORIES
        case Item(source=provider):
            query = ITEMS
    return query, provider, [record_key(record) for record in records]


def record_key(record: ReplayedRecord) -> str:
    """Return the key that identifies the record within its provider."""
    match record:
        case OddsEvent():
            return record.platform_event_id
        case Article():
            return record.article_id
        case Story():
            return record.story_uuid
        case Item():
            return record.key


async def events_seen(
    connection: Connection, platform: str, ids: Sequence[str]
) -> dict[str, tuple[datetime, bool]]:
    """Return when each event was last seen, and whether it is absent or withdrawn."""
    rows = await connection.fetch(SEEN, platform, list(ids))
    return {row[0]: (row[1], row[2]) for row in rows}


async def items_seen(
    connection: Connection, source: str, keys: Sequence[str], org_id: UUID | None = None
) -> dict[str, tuple[datetime, bool]]:
    """Return when each item of this owner was last seen, and whether it is missing."""
    rows = await connection.fetch(for_owner(ITEMS_SEEN, org_id), org_id, source, list(keys))
    return {row[0]: (row[1], row[2]) for row in rows}


async def assign_partition(
    connection: Connection, platform: str, partition: str, ids: Sequence[str]
) -> None:
    """Set the partition of events that no listing has assigned to one."""
    await connection.execute(ASSIGN_PARTITION, platform, partition, list(ids))


async def delete_readable(
    connection: Connection, source: str, page: ReplayPage, still_refused: Collection[bytes]
) -> int:
    """Delete the rejected records of a page that can now be parsed; returns how many."""
    tag = await connection.execute(
        DELETE_READABLE, page.run_id, source, page.partition, page.page, list(still_refused)
    )
    return int(tag.removeprefix("DELETE "))


async def delete_validators(connection: Connection, source: str, body_hash: bytes) -> None:
    """Delete the page's validators, so that the next run parses it."""
    await connection.execute(DELETE_VALIDATORS, source, body_hash)


async def begin(
    pool: Pool, run_id: UUID, what: tuple[str, str, Mapping[str, Any]], now: datetime
) -> None:
    """Insert the replay's run as `cancelled`, which it remains unless `end` is called.

    `what`: job, requester, parameters.
    """
    await pool.execute(BEGIN, run_id, *what, now)


async def end(pool: Pool, run_id: UUID, stats: Mapping[str, int], now: datetime) -> None:
    """Mark the replay's run as successful."""
    await pool.execute(END, run_id, now, dict(stats))
