"""Kept pages of an organisation's recipe, and what a replay may change."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import zstandard

from app.core.enums import Scope
from app.store.db import Pool
from tests.api.clients import wares
from tests.dashboard.server import Site

NOW = datetime.now(UTC)
RUN = """
INSERT INTO runs (execution_id, job, org_id, trigger, params, status, attempt, losses,
                  max_attempts, timeout_seconds, lease_epoch, queued_at, stats)
VALUES ($1, 'collection', $2, 'manual', '{}', 'success', 1, 0, 3, 60, 0, now(), '{}')
"""


PAGE = """
INSERT INTO raw_pages (execution_id, source, partition, page, url, status, headers, fetched_at,
                       body_hash)
VALUES ($1, $2, 'all', 1, 'https://example.org/wares', 200, '{}', $3,
        keep_raw_body($4, $5, $6, $3)) RETURNING id
"""


ITEM = """
INSERT INTO items (org_id, source, key, data, content_hash, first_seen, last_seen, changed_at)
VALUES ($1, 'recipe:wares', $2, $3, '', $4, $4, $4)
"""


TABLES = (
    "items",
    "odds_events",
    "odds_prices",
    "odds_price_changes",
    "changes",
    "rejected_records",
)


async def digest(pool: Pool) -> list[Any]:
    """What stands in the tables that a replay writes."""
    return [
        await pool.fetchval(f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {t} t")  # noqa: S608 - names of our own
        for t in TABLES
    ]


async def org_page(site: Site, body: bytes, recipe: str = "") -> int:
    """A page of a run of `acme` with its recipe `wares`, and two items as they were stored."""
    await site.token(Scope.READ, "acme")
    org_id: UUID = await site.pool.fetchval("SELECT id FROM organizations WHERE name = 'acme'")
    run_id = uuid4()
    await site.pool.execute(RUN, run_id, org_id)
    await site.pool.execute(
        "INSERT INTO org_sources (org_id, name, recipe, revision) VALUES ($1, 'wares', $2, 1)",
        org_id,
        recipe or wares(),
    )
    for key, title in (("1", "ware 1"), ("2", "<b>as it was read once</b>")):
        seen = NOW - timedelta(hours=2)
        await site.pool.execute(ITEM, org_id, key, {"id": key, "title": title}, seen)
    packed = zstandard.ZstdCompressor().compress(body)
    page_id: int = await site.pool.fetchval(
        PAGE,
        run_id,
        "recipe:wares",
        NOW - timedelta(hours=1),
        hashlib.sha256(body).digest(),
        packed,
        len(body),
    )
    return page_id


def listing(count: int) -> bytes:
    items = [{"id": str(n), "name": f"ware {n}"} for n in range(1, count + 1)]
    return json.dumps({"items": items}).encode()
