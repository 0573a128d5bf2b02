"""An organisation uses a share of a pool's connections, and leaves the others to the rest."""

import asyncio
from uuid import uuid4

from app.store import tenancy
from app.store.db import open_pool
from tests.wait import until


async def test_one_organisation_leaves_connections_to_others(dsn: str) -> None:
    pool, busy, calm, under_way, end = (
        await open_pool(dsn, size=8), uuid4(), uuid4(), list[int](), asyncio.Event()
    )  # fmt: skip

    async def work() -> None:
        async with tenancy.org_transaction(pool, busy):
            under_way.append(1)
            await end.wait()

    tasks = [asyncio.create_task(work()) for _ in range(20)]
    try:
        await until(lambda: len(under_way) >= 2, 20)
        async with asyncio.timeout(20):
            for _ in range(8):
                async with tenancy.org_transaction(pool, calm) as connection:
                    assert await connection.fetchval("SELECT 1") == 1
        assert len(under_way) == 2
    finally:
        end.set()
        await asyncio.gather(*tasks)
        await pool.close()
    assert len(under_way) == 20


async def test_a_transaction_within_one_of_the_same_organisation_does_not_wait(dsn: str) -> None:
    pool, org = await open_pool(dsn, size=4), uuid4()

    async def nested() -> None:
        async with tenancy.org_transaction(pool, org):
            await asyncio.sleep(0)
            async with tenancy.org_transaction(pool, org) as connection:
                await connection.fetchval("SELECT 1")

    async with asyncio.timeout(20):
        await asyncio.gather(nested(), nested())
    await pool.close()
