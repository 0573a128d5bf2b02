"""A dump that is restored into another server, where transactions are fewer."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from arq.connections import ArqRedis

from app import migrations
from app.orgs import tokens
from app.store import tenancy
from app.store.content import changes
from app.store.content.changes import FeedPosition
from app.store.db import Pool
from app.store.servers import ServerUrls
from tests.clock import NOON
from tests.configs import config_for
from tests.horizon import settled
from workers import lifecycle, registry

# A run of an organisation whose worker died with the old server.
LEFT = """
INSERT INTO runs (execution_id, job, org_id, trigger, status, attempt, losses, max_attempts,
                  timeout_seconds, lease_epoch, queued_at, started_at, lease_expires_at, worker)
VALUES ($1, 'collection', $2, 'manual', 'running', 1, 0, 3, 60, 1, now(), now(),
        now() - interval '1 hour', 'w')
"""
CANCEL = "UPDATE runs SET status = 'cancelled' WHERE execution_id = $1"
# As if the ids of transactions began anew, on another server.
RESTORE = "UPDATE change_clock SET base = base - 1000000, system = coalesce(system, 0) + 1"


@pytest.fixture
async def org(pool: Pool) -> UUID:
    return await tokens.create_org(pool, "Acme", NOON)


async def read(pool: Pool, org: UUID, after: FeedPosition) -> tuple[list[str], FeedPosition]:
    """The statuses of runs in the feed after that place, and where to go on."""
    await settled(pool)
    async with tenancy.org_transaction(pool, org) as connection:
        found, place = await changes.feed(connection, org, after, 100)
    return [change.fields["status"]["to"] for change in found if change.fields], place


async def restored(pool: Pool, org: UUID) -> tuple[UUID, FeedPosition]:
    """A run that the old server left, and the place of a reader that has read its whole feed."""
    await changes.continue_clock(pool)
    run_id = uuid4()
    await pool.execute(LEFT, run_id, org)
    _, place = await read(pool, org, FeedPosition())
    await pool.execute(RESTORE)
    return run_id, place


async def test_what_a_worker_changes_when_it_starts_is_read_in_the_feed(
    dsn: str, redis: ArqRedis, redis_url: str, pool: Pool, org: UUID
) -> None:
    _, place = await restored(pool, org)
    config = config_for(dsn, redis_url, asknews_api_key=None)
    ctx: dict[str, Any] = {"redis": redis}

    await lifecycle.startup(config, ServerUrls(dsn, redis_url), registry.load(config))(ctx)
    await lifecycle.shutdown(ctx)

    assert (await read(pool, org, place))[0] == ["queued"]


async def test_what_is_changed_after_migrate_is_read_in_the_feed(
    dsn: str, pool: Pool, org: UUID
) -> None:
    run_id, place = await restored(pool, org)

    await asyncio.to_thread(migrations.upgrade, dsn)
    await pool.execute(CANCEL, run_id)

    assert (await read(pool, org, place))[0] == ["cancelled"]
