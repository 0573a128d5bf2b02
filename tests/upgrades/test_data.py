"""Data written under each schema survives the upgrade to this code's schema."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from app import migrations
from app.embedded import Servers
from app.ledger import proof
from app.store import schema
from app.store.db import OPERATOR_SESSION, open_pool
from tests import servers as real
from tests.upgrades.databases import executed

# Rows as the code of that revision wrote them. Every new migration adds an entry here.
WRITTEN = {
    "0001": """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,
                       evaluated_through, next_tick_at, due_at)
VALUES ('scrape', 'scrape', '{"every_seconds": 60, "anchor": "2026-09-05T00:00:00+00:00",
        "jitter_seconds": 0}', '{}', '{}', 1, '2026-09-05T12:00:00Z', true,
        '2026-09-05T12:03:00Z', '2026-09-05T12:04:00Z', '2026-09-05T12:04:00Z');
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM schedules;
INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status, attempt,
                  losses, max_attempts, timeout_seconds, lease_epoch, queued_at, started_at,
                  completed_at, stats)
SELECT '00000000-0000-4000-8000-000000000001', 'scrape', id, '2026-09-05T12:01:00Z', 'scheduled',
       '{}', 'success', 1, 0, 3, 240, 1, '2026-09-05T12:01:00Z', '2026-09-05T12:01:00Z',
       '2026-09-05T12:01:09Z', '{"pages": 3}' FROM schedules;
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)
SELECT schedule_id, scheduled_for, 1, 'ran', execution_id, scheduled_for FROM runs;
INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version, outcome, reason,
                       decided_at)
SELECT id, '2026-09-05T12:02:00Z', '2026-09-05T12:03:00Z', 2, 1, 'missed', 'scheduler_down', now()
FROM schedules;
INSERT INTO run_events (execution_id, at, event, attempt)
SELECT execution_id, started_at, 'started', 1 FROM runs;
INSERT INTO worker_beats (worker, since, until, jumped)
VALUES ('w', '2026-09-05T12:00:00Z', '2026-09-05T12:01:30Z', false);
INSERT INTO rejected_records (execution_id, source, partition, page, reason, data)
SELECT execution_id, 'bet9ja', 'p', 1, 'no price', 'raw' FROM runs;
INSERT INTO raw_bodies (hash, body, size, used_at) VALUES ('\\x01', '\\x02', 3, now());
INSERT INTO raw_pages (execution_id, source, partition, page, url, status, headers, fetched_at,
                       body_hash)
SELECT execution_id, 'bet9ja', 'p', 1, 'https://example.org', 200, '{}', now(), '\\x01' FROM runs;
INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language, country,
                      published_at, categories, keywords, entities, first_seen_at, updated_at,
                      run_id)
VALUES ('asknews', 'a1', 'https://example.org', 'Title', '', '', '', 'en', '', now(), '{}', '{}',
        '{}', now(), now(), '00000000-0000-4000-8000-000000000001');
INSERT INTO odds_events (platform, platform_event_id, country, competition, home, away, kickoff,
                         first_seen_at, updated_at, run_id, seen_at, seen_run_id)
VALUES ('bet9ja', '1', 'England', 'Premier League', 'Home', 'Away', now(), now(), now(),
        '00000000-0000-4000-8000-000000000001', now(), '00000000-0000-4000-8000-000000000001');
INSERT INTO odds_prices (event_id, market, outcome, price, active, changed_at, run_id)
SELECT id, '1x2', 'home', 2.4, true, now(), run_id FROM odds_events;
INSERT INTO odds_price_changes (event_id, market, outcome, price, active, observed_at, run_id)
SELECT id, '1x2', 'home', 2.4, true, now(), run_id FROM odds_events;
INSERT INTO organizations (id, name) VALUES ('00000000-0000-4000-8000-00000000000a', 'Acme');
INSERT INTO items (org_id, source, key, data, content_hash, first_seen, last_seen, changed_at)
VALUES ('00000000-0000-4000-8000-00000000000a', 's', 'k', '{}', '\\x01', now(), now(), now());
INSERT INTO source_cursors (source, partition, value, moved_at) VALUES ('s', 'all', '5', now());
INSERT INTO source_paces (source, interval_seconds, next_at) VALUES ('s', 300, now());
INSERT INTO org_secrets (org_id, name, ciphertext, updated_at)
VALUES ('00000000-0000-4000-8000-00000000000a', 'key', '\\x01', now());
INSERT INTO health_flips (key, sequence, at, before, after, since)
VALUES ('scrape', 1, now(), 'healthy', 'unhealthy', now());
INSERT INTO metric_totals (name, first, second, third, value) VALUES ('runs', 'scrape', '', '', 1);
INSERT INTO backfills (id, schedule_id, name, since, until, total, requested_by, created_at)
SELECT gen_random_uuid(), id, 'backfill', now(), now(), 1, 'ada', now() FROM schedules;
INSERT INTO org_sources (org_id, name, recipe, revision)
VALUES ('00000000-0000-4000-8000-00000000000a', 'shop', 'name = "shop"', 1);
""",
    "0002": """
INSERT INTO zone_data (zone, stamp, data) VALUES ('UTC', '2026f-0123456789ab', '\\x01');
""",
    "0003": """
UPDATE schedules SET policy_choices = '{"overlap": "skip"}';
""",
    "0004": """
UPDATE odds_events SET page_order = 1;
""",
    "0005": """
UPDATE items SET absent_since = now();
""",
    "0006": """
INSERT INTO notifications (channel, title, body, severity, created_at, next_try_at, attempts)
VALUES ('json-1', 'poll is healthy again', '', 'success', now(), now(), 0);
""",
    "0007": """
INSERT INTO metric_totals (name, first, second, third, value)
VALUES ('runs', 'source:books', 'success', '', 1);
""",
    "0008": """
INSERT INTO items (org_id, source, key, data, content_hash, first_seen, last_seen, changed_at)
VALUES ('00000000-0000-4000-8000-00000000000a', 's', 'second', '{}', '\\x01', now(), now(), now());
""",
    "0009": """
UPDATE runs SET retries = 1;
""",
    "0010": """
INSERT INTO items (source, key, data, content_hash, first_seen, last_seen, changed_at)
VALUES ('s', 'listed', '{"a": 1}', '\\x01', now(), now(), now());
""",
    "0013": """
INSERT INTO api_tokens (id, label, scope, hash)
VALUES ('00000000-0000-4000-8000-00000000000b', 'laptop', 'admin', '\\x01');
""",
    "0014": """
UPDATE organizations SET limits = '{"max_collections": 2}';
""",
    "0015": """
UPDATE items SET data = '{"n": 1}', content_hash = '\\x02';
""",
    "0016": """
INSERT INTO webhooks (id, org_id, url, secret, position, change_id, created_at, created_by)
VALUES ('00000000-0000-4000-8000-00000000000c', '00000000-0000-4000-8000-00000000000a',
        'https://example.org', '\\x01', 0, 0, now(), 'Acme/laptop');
""",
    "0017": """
INSERT INTO idempotency_keys (org_id, key, fingerprint, created_at)
VALUES ('00000000-0000-4000-8000-00000000000a', 'k', '\\x01', now());
""",
    "0019": """
UPDATE runs SET suspicions = 1;
""",
    "0020": """
INSERT INTO source_usage (source, month, requests) VALUES ('asknews_news', '2026-09-01', 7);
""",
    "0021": """
UPDATE schedule_versions SET reason = 'created';
""",
    "0025": """
INSERT INTO run_keys (execution_id, source, partition, places)
SELECT execution_id, 's', 'all', '\\x80' FROM runs;
""",
    "0030": """
INSERT INTO notifications
  (channel, title, body, severity, incident, created_at, next_try_at, attempts)
VALUES ('pagerduty-1', 'poll is overdue', '', 'failure', 'poll', now(), now(), 0);
""",
    "0031": """
INSERT INTO audit_log (at, by, action, job, reason)
VALUES (now(), 'ada', 'retry', 'scrape', 'the site was down');
UPDATE schedules SET paused_until = now();
""",
    "0032": """
INSERT INTO trends (step, kind, at, name, runs, failed, records, prices, changed, errors, bytes,
                    took)
VALUES (3600, 'source', '2026-09-05T12:00:00Z', 'bet9ja', 2, 1, 30, 90, 4, 1, 999, '{"8": 2}');
""",
    "0033": """
UPDATE api_tokens SET data = true;
""",
    "0036": """
INSERT INTO audit_log (at, by, action, job, reason)
VALUES (now(), 'ada', 'snooze', 'scrape', 'their maintenance');
""",
    "0037": """
INSERT INTO idempotency_keys (key, fingerprint, created_at) VALUES ('k', '\\x01', now());
""",
    "0039": """
INSERT INTO org_source_revisions (org_id, name, revision, recipe, "by", at)
VALUES ('00000000-0000-4000-8000-00000000000a', 'shop', 2, 'name = "shop"', 'Acme/laptop', now());
""",
    "0040": """
INSERT INTO alert_channels (id, org_id, label, service, secret, created_at, created_by)
VALUES ('00000000-0000-4000-8000-00000000000d', '00000000-0000-4000-8000-00000000000a', 'team',
        'slack', '\\x01', now(), 'Acme/laptop');
INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts, org_id,
                           channel_id)
SELECT service, 't', 'b', now(), now(), 0, org_id, id FROM alert_channels;
""",
    "0045": """
UPDATE schedule_versions SET proven_through = effective_from;
""",
    "0046": """
INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language, country,
                      published_at, sentiment, categories, keywords, entities, first_seen_at,
                      updated_at, run_id)
VALUES ('asknews', 'a2', 'https://example.org', 'Title', '', '', '', 'en', '', now(), 1, '{}', '{}',
        '{}', now(), now(), '00000000-0000-4000-8000-000000000001');
""",
    "0047": """
INSERT INTO schedule_edits (schedule_id, at, by, action) SELECT id, now(), 'ada', 'edited'
FROM schedules WHERE key = 'scrape';
""",
    "0048": """
INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses, max_attempts,
                  timeout_seconds, lease_epoch, queued_at, stats)
VALUES (gen_random_uuid(), 'poll_news', 'manual', '{}', 'cancelled', 1, 0, 3, 240, 1, now(), '{}');
""",
}
TABLES = (
    "schedules", "schedule_versions", "runs", "ticks", "tick_gaps", "run_events", "worker_beats",
    "rejected_records", "raw_bodies", "raw_pages", "articles", "odds_events", "odds_prices",
    "odds_price_changes", "organizations", "items", "backfills",
    "source_cursors", "source_paces", "org_secrets", "health_flips", "org_sources", "zone_data",
    "notifications", "source_usage", "run_keys", "audit_log", "trends",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(servers: Servers) -> Iterator[dict[str, str]]:
    """A database for each revision, as its code left it: the one before, upgraded, and new rows."""
    names: dict[str, str] = {}
    for revision, rows in WRITTEN.items():
        name, before = f"upgrades_{uuid4().hex}", next(reversed(names.values()), None)
        dsn = asyncio.run(real.create_database(servers, name, template=before))
        names[revision] = name
        _upgrade(dsn, revision)
        asyncio.run(executed(dsn, rows))
    yield names
    for name in names.values():
        asyncio.run(real.drop_database(servers, name))


def _upgrade(dsn: str, revision: str = "head") -> None:
    with ThreadPoolExecutor(1) as thread:  # a loop may run in this one
        thread.submit(migrations.upgrade, dsn, revision).result()


async def counted(dsn: str) -> dict[str, int]:
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own
            for table in TABLES
        }
    finally:
        await connection.close()


async def proved(dsn: str) -> proof.TickAccount:
    pool = await open_pool(dsn, size=2)
    try:
        (account,) = await proof.verify(pool, datetime(2026, 9, 5, 12, 4, tzinfo=UTC))
    finally:
        await pool.close()
    return account


@pytest.mark.parametrize("begin", WRITTEN)
def test_data_of_each_revision_survives_the_upgrade(
    servers: Servers, written: dict[str, str], begin: str
) -> None:
    dsn = real.database_url(servers, written[begin])

    _upgrade(dsn)

    rows = "".join(rows for revision, rows in WRITTEN.items() if revision <= begin)
    counts = asyncio.run(counted(dsn))
    account = asyncio.run(proved(dsn))
    assert {t for t in TABLES if f"INSERT INTO {t} " in rows} == {t for t in TABLES if counts[t]}
    assert account.consistent
    assert (account.expected, account.ran, dict(account.missed)) == (3, 1, {"scheduler_down": 2})


def test_every_revision_has_rows() -> None:
    assert tuple(WRITTEN) == schema.known_revisions()
