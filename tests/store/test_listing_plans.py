"""A page of a list reads about as many rows as it shows or examines, however many there are."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from app.embedded import Servers
from app.store.content import item_listing, news_listing, page_listing
from app.store.content.item_listing import ItemFilter
from app.store.content.news_listing import NewsFilter
from app.store.content.page_listing import RejectionFilter
from app.store.db import Pool, open_pool
from app.store.reports import overview
from app.store.runs import run_pages
from app.store.runs.listing import RunFilter
from tests import servers as real
from tests.store.plans import Read, rows_scanned

ROWS = 12_000
EXAMINED = 5_100  # with what a sort of equal instants reads ahead
TABLES = {"items", "articles", "rejected_records", "raw_pages", "runs", "ticks"}
FILL = (
    """
    INSERT INTO items (source, key, data, content_hash, first_seen, last_seen, changed_at)
    SELECT 'books', n::text, jsonb_build_object('n', n), '\\x01', now(), now(),
           now() - n * interval '1 second'
    FROM generate_series(1, $1::int) n
    """,
    """
    INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language,
                          country, published_at, categories, keywords, entities, first_seen_at,
                          updated_at, run_id)
    SELECT 'asknews', n::text, '', 'T', '', '', '', 'en', '', now() - n * interval '1 second', '{}',
           '{}', '{}', now(), now(), gen_random_uuid()
    FROM generate_series(1, $1::int) n
    """,
    """
    WITH run AS (
      INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses, max_attempts,
                        timeout_seconds, lease_epoch, queued_at, stats)
      VALUES (gen_random_uuid(), 'j', 'manual', '{}', 'success', 1, 0, 3, 240, 1, now(), '{}')
      RETURNING execution_id)
    INSERT INTO rejected_records (execution_id, source, partition, page, reason, data, created_at)
    SELECT execution_id, 's', 'all', 1, 'no price', '{}', now() - n * interval '1 second'
    FROM run, generate_series(1, $1::int) n
    """,
    """
    WITH run AS (
      INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses, max_attempts,
                        timeout_seconds, lease_epoch, queued_at, stats, created_at)
      SELECT gen_random_uuid(), 'j', 'manual', '{}', 'success', 1, 0, 3, 240, 1, now(), '{}',
             now() - n * interval '1 minute'
      FROM generate_series(1, $1::int) n
      RETURNING execution_id
    ), body AS (
      INSERT INTO raw_bodies (hash, body, size, used_at) VALUES ('\\x01', '', 0, now())
      RETURNING hash)
    INSERT INTO raw_pages (execution_id, source, partition, page, url, status, headers, fetched_at,
                           body_hash)
    SELECT execution_id, 's', 'all', 1, '', 200, '{}', now(), hash FROM run, body
    """,
    """
    WITH schedule AS (
      INSERT INTO schedules (id, key, job, spec, policies, params, version, effective_from, enabled,
                             evaluated_through)
      OVERRIDING SYSTEM VALUE
      VALUES (77, 'j', 'j', '{}', '{}', '{}', 1, now(), true, now()) RETURNING id
    ), run AS (
      INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status,
                        attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at,
                        stats, created_at)
      SELECT gen_random_uuid(), 'j', id, at, 'scheduled', '{}',
             CASE n % 2 WHEN 0 THEN 'success' ELSE 'failure' END, 1, 0, 3, 240, 1, at, '{}', at
      FROM schedule, generate_series(1, $1::int) n
      CROSS JOIN LATERAL (SELECT now() - n * interval '1 minute' AS at) a
      RETURNING schedule_id, scheduled_for, execution_id)
    INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)
    SELECT schedule_id, scheduled_for, 1, 'ran', execution_id, scheduled_for FROM run
    """,
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BOOKS, SEARCH = ItemFilter(None, "books"), ItemFilter(None, "books", text="nothing")
COLUMN = ItemFilter(None, "books", column="n")
READS: dict[str, tuple[Read, int]] = {
    "changed": (lambda c: item_listing.changed(c, BOOKS, None, 50), 60),
    "key": (lambda c: item_listing.by_key(c, BOOKS, ("5",), 50), 60),
    "search": (lambda c: item_listing.changed(c, SEARCH, None, 50), EXAMINED),
    "column": (lambda c: item_listing.by_column(c, COLUMN, 0, 50), EXAMINED),
    "sources": (lambda c: item_listing.sources(c, None, 50), 60),
    "articles": (lambda c: news_listing.articles(c, NewsFilter(), None, 50), 60),
    "rejected": (lambda c: page_listing.rejected(c, RejectionFilter(), None, 50), 60),
    "rejected of a source": (
        lambda c: page_listing.rejected(c, RejectionFilter(source="x"), None, 50),
        EXAMINED,
    ),
    "ticks": (lambda c: overview.ticks(c, {77: EPOCH}, 60), 61),
    "runs": (lambda c: run_pages.run_page(c, RunFilter(), 50), 60),
    "unsuccessful runs": (
        lambda c: run_pages.run_page(c, RunFilter(statuses=["failure", "lost"]), 50),
        60,
    ),
    "errors": (lambda c: run_pages.run_page(c, RunFilter(error="none"), 50), EXAMINED),
    "worker": (lambda c: run_pages.run_page(c, RunFilter(worker="none"), 50), EXAMINED),
    "runs of a source": (lambda c: run_pages.run_page(c, RunFilter(source="x"), 50), EXAMINED),
    "lost runs": (lambda c: run_pages.run_page(c, RunFilter(statuses=["lost"]), 50), EXAMINED),
}  # fmt: skip


@pytest.fixture(scope="module")
async def full(servers: Servers, template: str) -> AsyncGenerator[Pool]:
    """A database with many rows of everything, which the reads of this file leave as they are."""
    name = f"listings_{uuid4().hex}"
    opened = await open_pool(await real.create_database(servers, name, template=template), size=2)
    for statement in FILL:
        await opened.execute(statement, ROWS)
    await opened.execute("ANALYZE items, articles, runs, rejected_records, raw_pages, ticks")
    yield opened
    await opened.close()
    await real.drop_database(servers, name)


@pytest.mark.parametrize("name", READS)
async def test_a_page_reads_no_more_rows_than_it_examines(full: Pool, name: str) -> None:
    read, most = READS[name]

    scanned = await rows_scanned(full, read, TABLES)

    assert scanned
    assert max(scanned) <= most, scanned
