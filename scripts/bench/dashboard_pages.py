"""Every page of the dashboard at full size: what it costs, and how many statements it takes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import zstandard

from app.core.enums import Scope
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.store.db import Pool
from scripts.bench import data
from scripts.bench.data import PageFigures

BULK = 3600.0  # seconds
ORG = "bench"
BODY = b"<p>A line</p>\n" * 7_143
FILL = (
    # The job that collects the sites, by its name.
    "UPDATE schedules SET key = 'scrape_all_platforms' WHERE key = 'job_002'",
    """
    INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed, pages,
                             records, inserted, changed, unchanged, rejected, requests, retries,
                             bytes, throttled_ms, duration_seconds)
    SELECT execution_id, source, 'success', 1, 0, 3, 30, 2, 5, 23, 1, 3, 0, 999, 0, 1.5
    FROM (SELECT execution_id FROM runs WHERE job <> 'job'
          ORDER BY created_at DESC LIMIT 100000) r
    CROSS JOIN unnest(ARRAY['sportybet', 'betpawa', 'bet9ja']) source
    """,
    """
    INSERT INTO trends (step, kind, at, name, runs, failed, records, prices, changed, errors, bytes,
                        took, waited)
    SELECT step, kind, date_bin(step * interval '1 s', now() - n * step * interval '1 s', 'epoch'),
           CASE kind WHEN 'job' THEN 'job_' || lpad(s::text, greatest(3, length(s::text)), '0')
                     ELSE 'source_' || s END,
           12, 1, 3000, 90000, 200, 2, 9000000,
           '{"4": 3, "5": 4, "6": 2, "7": 1, "9": 1, "12": 1}', '{"-20": 8, "-16": 3, "-12": 1}'
    FROM unnest(ARRAY[3600, 21600, 86400]) step, unnest(ARRAY['job', 'source']) kind,
         generate_series(0, 31) n, generate_series(1, $1::int) s
    WHERE kind = 'job' OR s <= 100
    """,
    """
    INSERT INTO audit_log (at, "by", action, job, reason)
    SELECT now() - n * interval '1 minute', 'operator/ann', 'retry', 'job_001', 'a reason'
    FROM generate_series(1, 100000) n
    """,
    """
    INSERT INTO health_states (key, status, reason, ill, since, ill_since, flipped_at, sequence)
    SELECT key, 'unhealthy', 'failing', true, now(), now(), now(), 1 FROM schedules LIMIT 200
    """,
    """
    INSERT INTO health_flips (key, sequence, at, before, after, after_reason, since, detail)
    SELECT 'job_' || lpad((n % 200)::text, 3, '0'), n + 1000, now() - n * interval '1 minute',
           'healthy', 'unhealthy', 'failing', now(), 'the last 4 runs failed'
    FROM generate_series(1, 50000) n
    """,
    """
    INSERT INTO backfills (id, schedule_id, name, since, until, total, requested_by, created_at)
    SELECT gen_random_uuid(), (SELECT min(id) FROM schedules), 'backfill', now(), now(), 1, 'ann',
           now() - n * interval '1 minute' FROM generate_series(1, 1000) n
    """,
    """
    INSERT INTO raw_bodies (hash, body, size, used_at) VALUES ('\\x01', $1::bytea, 100002, now())
    """,
    """
    INSERT INTO raw_pages (execution_id, source, partition, page, url, status, headers, fetched_at,
                           body_hash)
    SELECT execution_id, 'bet9ja', 'all', 1, 'https://example.org', 200, '{}', created_at, '\\x01'
    FROM (SELECT execution_id, created_at FROM runs WHERE job <> 'job'
          ORDER BY created_at DESC LIMIT 100000) r
    """,
    """
    INSERT INTO org_sources (org_id, name, recipe, revision)
    SELECT $1, 'shop_' || n, repeat('# a line of a recipe' || chr(10), 100), 1
    FROM generate_series(1, 20) n
    """,
)


async def fill(pool: Pool, jobs: int) -> None:
    """Rows for the pages that the other benchmarks do not fill."""
    org_id = await tokens.create_org(pool, ORG, datetime.now(UTC))
    for statement in FILL:
        values: tuple[Any, ...] = ()
        if "$1::int" in statement:
            values = (jobs,)
        elif "$1::bytea" in statement:
            values = (zstandard.ZstdCompressor().compress(BODY),)
        elif "$1" in statement:
            values = (org_id,)
        await pool.execute(statement, *values, timeout=BULK)
    await pool.execute("VACUUM ANALYZE", timeout=BULK)


async def measure(
    client: httpx.AsyncClient, pool: Pool, rounds: int, *, full: bool
) -> list[PageFigures]:
    """The cost of each page, of the operator and of an organisation. Signs in as both.

    `full`: the tables of `data` are filled too.
    """
    paths = await _paths(pool)
    if full:
        paths += await data.paths(pool)
    found = [await data.figures_of(client, path, rounds) for path in paths]
    now = datetime.now(UTC)
    request = TokenRequest(ORG, "b", Scope.ADMIN, now + timedelta(days=1))
    client.cookies.clear()
    token = await tokens.create_token(pool, request, now, by="bench")
    await client.post("/login", data={"token": token})
    own = (
        "/collections",
        "/edit/schedules/default",
        "/edit/preview?cron=*/20 6-22 * * mon-fri&timezone=Africa/Lagos",
        "/edit/presets",
        "/edit/recipes",
        "/edit/recipes/shop_1",
        "/data/items",
        "/runs",
        "/ticks",
        "/audit",
    )
    return found + [await data.figures_of(client, path, rounds, f"{ORG}: {path}") for path in own]


async def _paths(pool: Pool) -> list[str]:
    row = await pool.fetchrow(
        "SELECT execution_id, scheduled_for, job FROM runs WHERE job = 'job_001'"
        " ORDER BY created_at DESC LIMIT 1"
    )
    if row is None:
        raise SystemExit("there is no run")
    run_id: UUID = row[0]
    at = quote(row[1].isoformat())
    page_id = await pool.fetchval("SELECT max(id) FROM raw_pages")
    day = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    return [
        "/",
        "/?status=unhealthy&sort=took",
        "/jobs",
        "/jobs/job_001",
        "/jobs/job_001?status=failure",
        f"/jobs/job_001/ticks/{at}",
        "/jobs/job_001/backfill",
        "/runs",
        "/runs?period=30d",
        "/runs?period=&status=unsuccessful",
        "/runs?period=30d&error=nothing",
        "/runs?period=30d&source=nobody",
        "/runs?period=30d&worker=nobody",
        f"/runs/{run_id}",
        f"/runs/{run_id}/pages",
        "/ticks",
        f"/ticks?day={day}&reason=scheduler_down",
        "/ticks?job=job_001",
        "/workers",
        "/audit",
        "/audit?by=nobody",
        "/backfills",
        "/alerts",
        "/trends",
        "/trends?period=7d",
        "/trends?period=30d&name=source_7",
        "/trends?by=job",
        "/trends?by=job&period=7d&name=job_001",
        "/trends?by=job&period=30d",
        "/collections",
        "/data/sources/bet9ja",
        f"/data/pages/{page_id}",
    ]
