"""A run that one attempt began and another goes on with ends as if nothing had happened."""

import asyncio
from uuid import UUID

from app.context import WorkerContext
from app.store.db import Pool
from app.store.runs import run_rows
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.execute.tables import events_of, stored
from tests.wait import until
from tests.worker_harness import perform, run_row, source_rows
from workers.execute import execute
from workers.odds import scrape_all_platforms


async def held_up(context: WorkerContext, standin: Standin, seconds: float) -> str:
    """A run by hand is queued and one competition of Bet9ja will answer late, once; its key."""
    calm = await source_rows(context.pool, await perform(context))
    group = str(calm["bet9ja"]["done"][-1])
    await context.pool.execute("TRUNCATE odds_events, runs, page_validators CASCADE")
    standin.fault("/bet9ja", "delay", match=group, seconds=seconds, times=1)
    return group


async def all_but(pool: Pool, group: str) -> bool:
    rows = await pool.fetch("SELECT source, partitions, done FROM run_sources")
    done = {row["source"]: (row["partitions"], row["done"]) for row in rows}
    bet9ja = done.pop("bet9ja", (0, []))
    others = len(done) == 2 and all(len(parts) == 1 for _, parts in done.values())
    return others and len(bet9ja[1]) == bet9ja[0] - 1 > 0 and group not in bet9ja[1]


def asked(standin: Standin) -> dict[str, int]:
    return {site: counts["requests"] for site, counts in standin.stats()["sites"].items()}


async def test_a_run_handed_over_goes_on_where_it_was(
    context: WorkerContext, standin: Standin
) -> None:
    group = await held_up(context, standin, 60)
    first = asyncio.create_task(perform(context))
    await until(lambda: all_but(context.pool, group), what="all partitions but one")
    first.cancel()
    run_id = await first
    before = asked(standin)

    await perform(context, run_id)

    after = asked(standin)
    assert after["bet9ja"] - before["bet9ja"] == 2, "the catalogue and what was missing"
    assert after["sportybet"] == before["sportybet"]
    assert after["betpawa"] == before["betpawa"]
    await equals_a_calm_run(context, run_id)
    row = await run_row(context.pool, run_id)
    assert (row["status"], row["attempt"], row["losses"]) == ("success", 2, 0)


async def test_a_worker_that_comes_back_from_the_dead_changes_nothing(
    context: WorkerContext, standin: Standin
) -> None:
    group = await held_up(context, standin, 0.8)
    first = asyncio.create_task(perform(context))
    await until(lambda: all_but(context.pool, group), what="all partitions but one")

    later = context.clock().replace(year=2100)
    (again,), _ = await run_rows.requeue_expired(context.pool, later)

    await perform(context, again.run_id)
    written = await stored(context.pool)
    ended = await run_row(context.pool, again.run_id)
    await first

    assert await stored(context.pool) == written
    assert await run_row(context.pool, again.run_id) == ended
    assert (ended["status"], ended["attempt"], ended["losses"]) == ("success", 2, 1)
    await equals_a_calm_run(context, again.run_id)


async def test_a_run_cancelled_by_hand_stops_and_keeps_what_it_stored(
    context: WorkerContext, standin: Standin
) -> None:

    group = await held_up(context, standin, 60)
    leases = worker_harness.leases_of(context)
    ctx = worker_harness.ctx_of(context, leases=leases)
    task = asyncio.create_task(execute(ctx, scrape_all_platforms))
    await until(lambda: all_but(context.pool, group), what="all partitions but one")
    ((run_id, _),) = leases.held

    await run_rows.cancel_open(context.pool, [run_id], context.clock(), by="ada")
    await leases.renew()
    await task

    row, rows = await run_row(context.pool, run_id), await source_rows(context.pool, run_id)
    assert (row["status"], row["error_message"]) == ("cancelled", "ada")
    assert rows["bet9ja"]["status"] == "cancelled"
    assert (await events_of(context.pool))["sportybet"] == 30


async def equals_a_calm_run(context: WorkerContext, run_id: UUID) -> None:
    """Its numbers are those of a run over the same world that nothing befell."""
    mine = await run_row(context.pool, run_id)
    rows = await source_rows(context.pool, run_id)
    calm_id = await perform(context)
    calm = (await run_row(context.pool, calm_id))["stats"]
    calm_rows = await source_rows(context.pool, calm_id)

    assert calm["changed"] == calm["inserted"] == 0
    assert calm["pages_unchanged"] == calm["pages"]
    fresh = {"inserted": calm["unchanged"], "unchanged": 0, "pages_unchanged": 0}
    assert mine["stats"] == calm | fresh
    for source, row in rows.items():
        for name in ("records", "pages"):
            assert row[name] == calm_rows[source][name]
        assert row["counts"]["prices"] == calm_rows[source]["counts"]["prices"]
        assert sorted(row["done"]) == sorted(calm_rows[source]["done"])
        answered = sum(row["counts"]["classes"].values())
        assert row["requests"] - 1 <= answered <= row["requests"], "one may have been cut off"
