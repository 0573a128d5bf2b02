"""The monthly budgets of sources: exact with many workers, new each month."""

import asyncio
from datetime import UTC, datetime

from app.store.db import Pool
from app.store.runs import source_usage

NOVEMBER = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


async def test_workers_that_spend_at_once_never_exceed_the_budget(pool: Pool) -> None:
    spent = await asyncio.gather(
        *(source_usage.spend(pool, "news", 10, 95, NOVEMBER) for _ in range(20))
    )

    assert spent.count(True) == 9
    assert await source_usage.used(pool, NOVEMBER) == {"news": 90}


async def test_each_month_has_the_whole_budget(pool: Pool) -> None:
    november = [await source_usage.spend(pool, "news", 1, 1, NOVEMBER) for _ in range(2)]
    december = await source_usage.spend(pool, "news", 1, 1, DECEMBER)

    assert (november, december) == ([True, False], True)
    assert await source_usage.used(pool, DECEMBER) == {"news": 1}


async def test_a_request_that_costs_more_than_the_budget_is_not_made(pool: Pool) -> None:
    assert not await source_usage.spend(pool, "stories", 10, 9, NOVEMBER)
    assert await source_usage.used(pool, NOVEMBER) == {}
