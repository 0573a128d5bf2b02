"""Rows of each table for an organisation."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from app.orgs import tokens
from app.store.db import Pool

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TABLES = (
    "organizations",
    "api_tokens",
    "collection_presets",
    "schedules",
    "runs",
    "schedule_edits",
    "items",
    "org_usage",
    "org_sources",
    "org_source_revisions",
    "org_secrets",
    "schedule_versions",
    "ticks",
    "tick_gaps",
    "run_events",
    "run_sources",
    "run_keys",
    "rejected_records",
    "raw_pages",
    "source_cursors",
    "source_paces",
    "page_validators",
    "backfills",
    "changes",  # one of each item, by a trigger
    "webhooks",
    "webhook_deliveries",
    "alert_channels",
    "notifications",
    "idempotency_keys",
    "audit_log",
)


SCHEDULE = """
INSERT INTO schedules (key, job, org_id, spec, policies, params, version, effective_from, enabled,
                       evaluated_through)
VALUES ($1, 'collection', $2, '{}', '{}', '{}', 1, $3, true, $3) RETURNING id
"""


RUN = """
INSERT INTO runs (execution_id, job, schedule_id, org_id, trigger, params, status, attempt, losses,
                  max_attempts, timeout_seconds, lease_epoch, queued_at, stats)
VALUES ($1, 'collection', $2, $3, 'manual', '{}', 'queued', 1, 0, 3, 60, 0, $4, '{}')
"""


async def furnish(pool: Pool, name: str) -> UUID:
    """An organisation with a row in every table."""
    org = await tokens.create_org(pool, name, NOW)
    await furnish_rows(pool, name, org)
    async with pool.acquire() as operator, operator.transaction():
        await operator.execute(
            "INSERT INTO org_sources (org_id, name, recipe, revision) VALUES ($1, 'own', '', 1)",
            org,
        )
        await operator.execute(
            "INSERT INTO org_source_revisions (org_id, name, revision, recipe, at)"
            " VALUES ($1, 'own', 1, '', $2)",
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO org_secrets (org_id, name, ciphertext, updated_at)"
            " VALUES ($1, 'own', '', $2)",
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO idempotency_keys (org_id, key, fingerprint, created_at)"
            " VALUES ($1, 'k', '', $2)",
            org,
            NOW,
        )
        webhook = uuid4()
        await operator.execute(
            "INSERT INTO webhooks (id, org_id, url, secret, position, change_id, created_at,"
            " created_by) VALUES ($1, $2, 'u', '', 0, 0, $3, 'x')",
            webhook,
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO webhook_deliveries (id, webhook_id, org_id, after_position, after_id,"
            " through_position, through_id, count, state, attempts, created_at, next_try_at)"
            " VALUES ($1, $1, $2, 0, 0, 1, 1, 1, 'waiting', 0, $3, $3)",
            webhook,
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO alert_channels (id, org_id, label, service, secret, created_at,"
            " created_by) VALUES ($1, $2, 'l', 'slack', '', $3, 'x')",
            webhook,
            org,
            NOW,
        )
    return org


async def furnish_rows(pool: Pool, name: str | None, org: UUID | None) -> None:
    """A row of the organisation, or of the operator, in every table that has rows of both."""
    wish = tokens.TokenRequest(name, "laptop", tokens.Scope.ADMIN)
    await tokens.create_token(pool, wish, NOW, by="test")
    run = uuid4()
    async with pool.acquire() as operator, operator.transaction():
        schedule = await operator.fetchval(SCHEDULE, f"collection:{org}", org, NOW)
        await operator.execute(RUN, run, schedule, org, NOW)
        await operator.execute(
            "INSERT INTO collection_presets (id, org_id, name, revision) VALUES ($1, $2, 'own', 1)",
            uuid4(),
            org,
        )
        await operator.execute(
            "INSERT INTO schedule_edits (schedule_id, org_id, at, by, action)"
            " VALUES ($1, $2, $3, 'x', 'created')",
            schedule,
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO audit_log (org_id, at, by, action) VALUES ($1, $2, 'x', 'run')", org, NOW
        )
        await operator.execute(
            "INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts,"
            " org_id) VALUES ('slack', 't', 'b', $2, $2, 0, $1)",
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO items (org_id, source, key, content_hash, first_seen, last_seen,"
            " changed_at) VALUES ($1, 's', 'k', '', $2, $2, $2)",
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)"
            " VALUES ($1, 1, '{}', '{}', $2)",
            schedule,
            NOW,
        )
        await operator.execute(
            "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)"
            " VALUES ($1, $2, 1, 'ran', $3, $2)",
            schedule,
            NOW,
            run,
        )
        await operator.execute(
            "INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version, outcome,"
            " reason, decided_at) VALUES ($1, $2, $2, 1, 1, 'skipped', 'paused', $2)",
            schedule,
            NOW,
        )
        await operator.execute(
            "INSERT INTO run_events (execution_id, at, event, attempt) VALUES ($1, $2, 'x', 1)",
            run,
            NOW,
        )
        await operator.execute(
            "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
            " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
            " throttled_ms, duration_seconds) VALUES ($1, 's', 'success',"
            " 0,0,0,0,0,0,0,0,0,0,0,0,0)",
            run,
        )
        await operator.execute("INSERT INTO run_keys VALUES ($1, 's', 'p', '')", run)
        await operator.execute(
            "INSERT INTO rejected_records (execution_id, source, partition, page, reason, data)"
            " VALUES ($1, 's', 'p', 1, 'r', '')",
            run,
        )
        await operator.execute(
            "INSERT INTO raw_bodies (hash, body, size, used_at) VALUES ($1, '', 0, $2)",
            run.bytes,
            NOW,
        )
        await operator.execute(
            "INSERT INTO raw_pages (execution_id, source, page, url, status, fetched_at, body_hash)"
            " VALUES ($1, 's', 1, 'u', 200, $2, $3)",
            run,
            NOW,
            run.bytes,
        )
        await operator.execute(
            "INSERT INTO source_cursors (org_id, source, partition, value, moved_at)"
            " VALUES ($1, 's', 'p', 'v', $2)",
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO source_paces (org_id, source, interval_seconds, next_at)"
            " VALUES ($1, 's', 60, $2)",
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO page_validators (fingerprint, source, body_hash, full_fetched_at, keys,"
            " refused, prices, rejected, org_id) VALUES ($1, 's', '', $3, '{}', '{}', 0, 0, $2)",
            run.bytes,
            org,
            NOW,
        )
        await operator.execute(
            "INSERT INTO backfills (id, schedule_id, name, since, until, total, requested_by,"
            " created_at) VALUES ($1, $2, 'b', $3, $3, 1, 'x', $3)",
            run,
            schedule,
            NOW,
        )


async def rows_by_owner(pool: Pool) -> dict[tuple[UUID | None, str], str]:
    """A digest of each owner's rows in each table that has owners, in one statement."""
    tables = await pool.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE a.attname = 'org_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND c.relname <> 'api_tokens'"
    )
    digests = " UNION ALL ".join(
        f"SELECT org_id, '{table}', md5(string_agg(t::text, ' ' ORDER BY t::text))"  # noqa: S608 - names of our own
        f" FROM {table} t GROUP BY 1"
        for (table,) in tables
    )
    return {(row[0], row[1]): row[2] for row in await pool.fetch(digests)}
