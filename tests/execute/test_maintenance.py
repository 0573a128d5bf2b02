"""Months of moves are there before they are needed, and go when the settings say so."""

from dataclasses import replace

from app.context import WorkerContext
from tests.clock import NOON
from tests.store.odds import event, rows, write
from tests.worker_harness import ctx_of
from workers.maintenance import maintain_partitions


async def test_tidying_up_opens_this_month_and_keeps_everything_if_not_told_otherwise(
    context: WorkerContext,
) -> None:
    await write(context.pool, event(1))

    await maintain_partitions(ctx_of(context))

    name = f"odds_price_changes_{context.clock():%Y_%m}"
    assert await context.pool.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
    assert len(await rows(context.pool, "odds_price_changes")) == 3


async def test_tidying_up_drops_moves_that_are_older_than_the_settings_say(
    context: WorkerContext,
) -> None:
    await write(context.pool, event(1))
    days = (context.clock() - NOON).days
    config = context.config.model_copy(update={"odds_changes_days": max(days - 1, 1)})

    await maintain_partitions(ctx_of(replace(context, config=config)))

    old = context.clock().replace(day=1) > NOON
    assert len(await rows(context.pool, "odds_price_changes")) == (0 if old else 3)
