"""A whole run in process against the pretend web: what it stores, counts, says of its sources."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.store.db import Pool
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.execute.tables import PLATFORMS, events_of, prices_of, stored
from tests.worker_harness import perform, run_row, source_rows
from workers.odds import scrape_all_platforms

SITES: dict[str, str] = dict(zip(PLATFORMS, ("/sportybet", "/betpawa", "/bet9ja"), strict=True))


async def test_a_run_over_three_platforms_stores_what_the_sites_list(
    context: WorkerContext, standin: Standin
) -> None:
    run_id = await perform(context)

    row = await run_row(context.pool, run_id)
    listed = {site: len(matches) for site, matches in standin.world.listed.items()}
    assert (row["status"], row["error_type"]) == ("success", None)
    assert await events_of(context.pool) == listed
    assert row["stats"]["events_scraped"] == sum(listed.values()) == 90
    assert row["stats"]["prices"] == row["stats"]["inserted"] == await prices_of(context.pool)
    assert row["duration_seconds"] > 0


async def test_a_run_logs_its_start_the_end_of_each_source_and_its_end(
    context: WorkerContext,
) -> None:
    with capture_logs() as logs:
        await perform(context, params={"platforms": ["bet9ja"]})

    named = ("run.started", "source.finished", "run.finished")
    lines = [line for line in logs if line["event"] in named]
    assert [line["event"] for line in lines] == list(named)
    assert (lines[1]["events_scraped"], lines[2]["stats"]["events_scraped"]) == (30, 30)
    assert lines[0]["params"] == {"platforms": ["bet9ja"]}


async def test_of_several_failed_sources_a_limit_of_ours_explains_the_run_before_a_site(
    context: WorkerContext, standin: Standin
) -> None:
    config = context.config.model_copy(update={"monthly_requests": {"betpawa": 1}})
    standin.fault("/sportybet", "status", status=404)

    run_id = await perform(replace(context, config=config))

    rows = await source_rows(context.pool, run_id)
    kinds = [rows[name]["error_kind"] for name in ("sportybet", "betpawa")]
    assert kinds == ["http_status", "over_limit"]
    assert (await run_row(context.pool, run_id))["error_type"] == "over_limit"


async def test_the_counters_of_a_source_agree_with_what_its_site_was_asked(
    context: WorkerContext, standin: Standin
) -> None:
    run_id = await perform(context)

    rows = await source_rows(context.pool, run_id)
    stats = (await run_row(context.pool, run_id))["stats"]
    assert list(rows) == sorted(PLATFORMS)
    for platform, row in rows.items():
        asked = standin.stats()["sites"][platform]["requests"]
        assert (row["status"], row["records"], row["requests"]) == ("success", 30, asked)
        assert row["partitions_failed"] == row["rejected"] == row["retries"] == 0
        assert row["bytes"] > 0
    for name in ("pages", "inserted", "changed", "unchanged"):
        assert stats[name] == sum(row[name] for row in rows.values())


async def test_a_second_run_over_the_same_pages_changes_nothing(context: WorkerContext) -> None:
    first = await perform(context)
    before = await stored(context.pool)

    second = await perform(context)

    stats = (await run_row(context.pool, second))["stats"]
    assert await stored(context.pool) == before
    assert stats["inserted"] == stats["changed"] == 0
    assert stats["unchanged"] == (await run_row(context.pool, first))["stats"]["inserted"]


async def test_a_second_run_writes_the_prices_that_moved_and_no_others(
    context: WorkerContext, standin: Standin
) -> None:
    await perform(context)
    prices = await prices_of(context.pool)
    standin.advance()

    run_id = await perform(context)

    stats = (await run_row(context.pool, run_id))["stats"]
    moves = await context.pool.fetchval("SELECT count(*) FROM odds_price_changes")
    assert 0 < stats["changed"] < prices
    assert moves == prices + stats["changed"]
    assert await prices_of(context.pool) == prices


async def test_prices_that_moved_are_written_although_the_database_clock_stepped_back(
    context: WorkerContext, standin: Standin
) -> None:
    await perform(context)
    standin.advance()
    context.clock.offset -= timedelta(minutes=10)

    moved = await run_row(context.pool, await perform(context))

    assert moved["stats"]["changed"] > 0
    before = await stored(context.pool)
    await context.pool.execute("TRUNCATE page_validators")
    again = await run_row(context.pool, await perform(context))
    assert (again["stats"]["changed"], again["stats"]["inserted"]) == (0, 0)
    assert await stored(context.pool) == before


async def test_a_page_requested_earlier_does_not_replace_what_a_later_one_wrote(
    context: WorkerContext, standin: Standin
) -> None:
    await perform(context)
    for table in ("odds_events", "page_validators"):
        await context.pool.execute(f"UPDATE {table} SET page_order = 1000")  # noqa: S608 - two names
    known = "SELECT fingerprint, body_hash FROM page_validators ORDER BY fingerprint"
    before = await stored(context.pool), await context.pool.fetch(known)

    standin.advance()
    await perform(context)

    assert (await stored(context.pool), await context.pool.fetch(known)) == before


@pytest.mark.parametrize(
    ("platform", "fault", "kind"),
    [
        ("bet9ja", {"kind": "status", "status": 500}, "http_status"),
        ("betpawa", {"kind": "html"}, "blocked"),
        ("sportybet", {"kind": "reset"}, "network"),
        ("sportybet", {"kind": "bizcode"}, "api_error"),
        ("betpawa", {"kind": "truncated"}, "network"),
    ],
    ids=["status", "html", "reset", "bizcode", "truncated"],
)
async def test_a_platform_that_fails_leaves_the_others_whole(
    context: WorkerContext, standin: Standin, platform: str, fault: dict[str, Any], kind: str
) -> None:
    standin.fault(SITES[platform], **fault)

    run_id = await perform(context)

    row, rows = await run_row(context.pool, run_id), await source_rows(context.pool, run_id)
    others = {name: 30 for name in PLATFORMS if name != platform}
    assert (row["status"], row["error_type"]) == ("partial_failure", kind)
    assert row["error_message"].startswith(f"{platform}: ")
    assert await events_of(context.pool) == others
    assert (rows[platform]["status"], rows[platform]["error_kind"]) == ("failure", kind)
    assert rows[platform]["error_message"]
    assert {rows[name]["status"] for name in others} == {"success"}


async def test_a_platform_that_fails_now_and_then_is_asked_again(
    context: WorkerContext, standin: Standin
) -> None:
    standin.fault("/sportybet", "status", status=503, times=2)

    run_id = await perform(context)

    rows = await source_rows(context.pool, run_id)
    assert (await run_row(context.pool, run_id))["status"] == "success"
    assert (rows["sportybet"]["requests"], rows["sportybet"]["retries"]) == (3, 2)


async def test_a_competition_that_fails_leaves_the_others_of_its_platform(
    context: WorkerContext, standin: Standin
) -> None:
    calm = await source_rows(context.pool, await perform(context))
    group = calm["bet9ja"]["done"][0]
    standin.fault("/bet9ja", "html", match=group)

    run_id = await perform(context)

    row = (await source_rows(context.pool, run_id))["bet9ja"]
    assert (await run_row(context.pool, run_id))["status"] == "partial_failure"
    assert (row["status"], row["partitions_failed"]) == ("partial_failure", 1)
    assert (list(row["errors"]), row["errors"][group]["kind"]) == ([group], "blocked")
    assert sorted(row["done"]) == sorted(set(calm["bet9ja"]["done"]) - {group})
    assert 0 < row["records"] < 30


async def test_a_run_whose_platforms_all_fail_is_a_failure(
    context: WorkerContext, standin: Standin
) -> None:
    for path in SITES.values():
        standin.fault(path, "html")

    run_id = await perform(context)

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["stats"]["events_scraped"]) == ("failure", 0)
    assert all(platform in row["error_message"] for platform in PLATFORMS)


async def test_fewer_events_than_the_sites_promise_is_never_a_success(
    context: WorkerContext, standin: Standin
) -> None:
    for path in SITES.values():
        standin.fault(path, "partial")

    run_id = await perform(context)

    row, rows = await run_row(context.pool, run_id), await source_rows(context.pool, run_id)
    kinds = {name: r["error_kind"] for name, r in rows.items()}
    assert row["status"] == "partial_failure"
    # BetPawa alone does not say how many there are.
    assert kinds == {"sportybet": "incomplete", "bet9ja": "incomplete", "betpawa": None}
    assert 0 < row["stats"]["events_scraped"] < 90


async def test_sites_that_list_nothing_at_all_are_a_failure(
    dsn: str, redis: ArqRedis, redis_url: str
) -> None:
    with Standin.start(events=0) as empty:
        async with worker_harness.opened(config_for(dsn, redis_url, empty), redis) as context:
            run_id = await perform(context)

            row, rows = await run_row(context.pool, run_id), await source_rows(context.pool, run_id)
    assert row["status"] == "failure"
    assert {r["status"] for r in rows.values()} == {"failure"}


@pytest.fixture
async def slow(dsn: str, redis: ArqRedis, redis_url: str) -> AsyncGenerator[WorkerContext]:
    """A worker context whose sites are slow."""
    with Standin.start(events=60, latency=0.05) as web:
        async with worker_harness.opened(config_for(dsn, redis_url, web), redis) as context:
            yield context


async def test_what_was_scraped_grows_while_the_run_goes_on(
    slow: WorkerContext, pool: Pool
) -> None:
    seen: list[int] = []
    run = asyncio.create_task(perform(slow))

    while not run.done() and (not seen or seen[-1] < 180):
        scraped: int | None = await pool.fetchval(
            "SELECT (stats ->> 'events_scraped')::int FROM runs"
        )
        seen.append(scraped or 0)
        await asyncio.sleep(0.01)

    final = (await run_row(pool, await run))["stats"]["events_scraped"]
    assert seen == sorted(seen)
    assert len(set(seen)) > 4, f"it did not grow: {seen}"
    assert max(seen) <= final == 180


async def test_a_run_that_takes_too_long_timed_out_and_leaves_no_source_running(
    context: WorkerContext, standin: Standin
) -> None:
    standin.fault("/bet9ja", "delay", seconds=60)
    run_id = uuid4()
    await context.pool.execute(
        "INSERT INTO runs (execution_id, job, trigger, status, attempt, losses, max_attempts,"
        " timeout_seconds, lease_epoch, queued_at)"
        " VALUES ($1, $2, 'manual', 'queued', 1, 0, 3, 5, 0, now())",
        run_id,
        scrape_all_platforms.name,
    )

    await perform(context, run_id)

    row, rows = await run_row(context.pool, run_id), await source_rows(context.pool, run_id)
    assert (row["status"], row["error_message"]) == ("timed_out", "took longer than 5 s")
    assert row["stats"]["events_scraped"] == 60, "what was stored before is counted"
    assert rows["bet9ja"]["status"] == "timed_out"
    assert rows["sportybet"]["status"] == "success"


async def test_a_listing_that_fails_half_way_withdraws_nothing(
    context: WorkerContext, standin: Standin
) -> None:
    await perform(context)
    for path in SITES.values():
        standin.fault(path, "partial")

    await perform(context)
    await perform(context)

    gone: int = await context.pool.fetchval(
        "SELECT count(*) FROM odds_events WHERE withdrawn_at IS NOT NULL"
        " AND platform <> 'betpawa'"  # it does not say how many there are: half a board is a board
    )
    assert gone == 0
