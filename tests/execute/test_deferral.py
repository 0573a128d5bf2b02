"""A site that asks for a long pause gets it: the rest of the run waits, its slot does not."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from arq.connections import ArqRedis

from app.context import WorkerContext
from app.fetch.client import Fetcher
from app.fetch.limiter import RedisLimiter
from app.runs.attempts import MAX_DEFERRALS, decide_deferral
from app.store.runs import run_rows
from app.store.runs.attempt_rows import ClaimedRun
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from workers import odds, sweep
from workers.job import declare_job
from workers.job_options import JobOptions
from workers.run import Run

NOW = datetime(2026, 9, 5, 12, tzinfo=UTC)


@pytest.fixture
async def apart(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    """A worker context to which Bet9ja is a host of its own: one stand-in plays all sites."""
    url = standin.bet9ja_url.replace("127.0.0.1", "localhost")
    config = config_for(dsn, redis_url, standin, bet9ja_url=url)
    async with worker_harness.opened(config, redis) as context:
        yield context


def claimed(**changes: Any) -> ClaimedRun:
    facts: dict[str, Any] = {
        "run_id": uuid4(),
        "job": "scrape",
        "epoch": 1,
        "attempt": 1,
        "params": {},
        "timeout": 240.0,
        "schedule_key": "scrape",
        "scheduled_for": NOW,
        "trigger": "scheduled",
        "started_at": NOW,
        "requested_by": None,
        "next_due": NOW + timedelta(minutes=5),
    }
    return ClaimedRun(**(facts | changes))


def late(**seconds: float) -> dict[str, tuple[datetime, str]]:
    return {name: (NOW + timedelta(seconds=wait), "slow down") for name, wait in seconds.items()}


def test_a_run_waits_for_the_longest_pause_that_leaves_the_next_tick_its_time() -> None:
    put_off = decide_deferral(claimed(), NOW, late(a=60, b=120, c=280))

    assert put_off is not None
    assert put_off.until == NOW + timedelta(seconds=120)
    assert put_off.sources == ("a", "b")
    assert put_off.reason == "a: slow down; b: slow down"


@pytest.mark.parametrize(
    ("run", "waits"),
    [
        (claimed(), {}),
        (claimed(), {"a": 271}),
        (claimed(deferrals=MAX_DEFERRALS), {"a": 60}),
        (claimed(next_due=None), {"a": 901}),
        (claimed(next_due=NOW - timedelta(seconds=1)), {"a": 40}),
    ],
    ids=["nothing to wait for", "past the next tick", "three times", "by hand", "tick has passed"],
)
def test_a_run_that_may_not_wait_ends_as_it_stands(
    run: ClaimedRun, waits: dict[str, float]
) -> None:
    assert decide_deferral(run, NOW, late(**waits)) is None


async def events(context: WorkerContext, run_id: UUID) -> list[tuple[str, int]]:
    rows = await context.pool.fetch(
        "SELECT event, attempt FROM run_events WHERE execution_id = $1 ORDER BY id", run_id
    )
    return [(row["event"], row["attempt"]) for row in rows]


async def rested(context: WorkerContext, redis: ArqRedis) -> None:
    """The time of the deferral passes: for the site's host, and for the run."""
    keys = [key async for key in redis.scan_iter("rollcall:limit:*")]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - redis-py has no types here
    await redis.delete(*keys)  # pyright: ignore[reportUnknownArgumentType] - as above
    fresh = RedisLimiter(redis)
    for window in context.fetchers.values():
        assert isinstance(window, Fetcher)
        window.limiter = fresh
    await context.pool.execute("UPDATE runs SET not_before = now() - interval '1 minute'")


async def test_a_run_whose_site_asks_for_a_pause_is_queued_until_then(
    apart: WorkerContext, standin: Standin, redis: ArqRedis
) -> None:
    standin.fault("/bet9ja", "retry_after", status=429, retry_after="120", match="GROUPID")

    run_id = await worker_harness.perform(apart)
    row = await worker_harness.run_row(apart.pool, run_id)
    sources = await worker_harness.source_rows(apart.pool, run_id)
    score = await redis.zscore(redis.default_queue_name, f"run:{run_id}:2")
    faults = sources["bet9ja"]["errors"].values()
    # Those beside it may have waited for their turn, or been left out.
    asked = next(fault for fault in faults if fault["status"] and fault["attempts"])

    assert (row["status"], row["attempt"], row["deferrals"]) == ("queued", 2, 1)
    assert (row["not_before"] - row["queued_at"]).total_seconds() == pytest.approx(120, abs=10)
    assert score == pytest.approx(row["not_before"].timestamp() * 1000, abs=1_000)
    assert {name: source["status"] for name, source in sources.items()} == {
        "sportybet": "success",
        "betpawa": "success",
        "bet9ja": "queued",
    }
    assert (asked["kind"], asked["status"], asked["attempts"]) == ("rate_limited", 429, 1)
    assert asked["url"].startswith("http://localhost")
    assert await events(apart, run_id) == [("started", 1), ("deferred", 1)]


async def test_a_deferred_run_goes_on_where_it_stopped_and_asks_nobody_twice(
    apart: WorkerContext, standin: Standin, redis: ArqRedis
) -> None:
    standin.fault("/bet9ja", "retry_after", status=429, retry_after="120", match="GROUPID=18")
    run_id = await worker_harness.perform(apart)
    before = await worker_harness.source_rows(apart.pool, run_id)
    standin.clear_faults()
    await rested(apart, redis)

    await worker_harness.perform(apart, run_id)
    row = await worker_harness.run_row(apart.pool, run_id)
    sources = await worker_harness.source_rows(apart.pool, run_id)

    assert (row["status"], row["error_type"]) == ("success", None)
    assert {source["status"] for source in sources.values()} == {"success"}
    assert sources["sportybet"] == before["sportybet"]
    assert set(before["bet9ja"]["done"]) < set(sources["bet9ja"]["done"])
    assert row["stats"]["events_scraped"] == sum(s["records"] for s in sources.values()) == 90
    assert row["stats"]["pages"] == sum(s["pages"] for s in sources.values())
    assert (await events(apart, run_id))[2:] == [("started", 2), ("finished", 2)]


async def test_a_failed_run_is_repeated_for_the_sources_that_did_not_succeed(
    context: WorkerContext, standin: Standin
) -> None:
    async def collect(run: Run) -> None:
        await run.collect(odds.GROUP.every_source(run.config))

    options = JobOptions(name="odds", group=odds.GROUP, retries=1, backoff=1)
    job = declare_job(collect, options)
    standin.fault("/sportybet", "status", status=404)
    run_id = await worker_harness.perform(context, job=job)
    before = await worker_harness.source_rows(context.pool, run_id)
    standin.clear_faults()
    standin.fault("/bet9ja", "status", status=404)
    await context.pool.execute("UPDATE runs SET not_before = now() - interval '1 minute'")

    await worker_harness.perform(context, run_id, job=job)

    row = await worker_harness.run_row(context.pool, run_id)
    sources = await worker_harness.source_rows(context.pool, run_id)
    assert (row["attempt"], row["status"], row["error_message"]) == (2, "success", None)
    assert sources["bet9ja"] == before["bet9ja"]
    assert row["stats"]["events_scraped"] == sum(s["records"] for s in sources.values()) == 90


async def test_a_run_says_that_it_is_our_own_network_that_is_down(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> None:
    nowhere = {
        "sportybet_url": "http://127.0.0.1:1/api",
        "betpawa_url": "http://localhost:1/api",
        "bet9ja_url": "http://127.0.0.1:2/api",
    }
    async with worker_harness.opened(config_for(dsn, redis_url, standin, **nowhere), redis) as cut:
        run_id = await worker_harness.perform(cut)
        row = await worker_harness.run_row(cut.pool, run_id)

    assert (row["status"], row["error_type"]) == ("failure", "local_network")
    assert "the local network is down" in row["error_message"]


async def test_no_sweep_starts_a_deferred_run_early_and_one_that_redis_lost_starts_in_time(
    apart: WorkerContext, standin: Standin, redis: ArqRedis
) -> None:
    standin.fault("/bet9ja", "retry_after", status=429, retry_after="120")
    run_id = await worker_harness.perform(apart)
    await redis.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    later = apart.clock() + timedelta(seconds=60)

    early = await run_rows.queued_runs(apart.pool, later)
    await sweep.requeue_lost(apart)
    kept = await worker_harness.run_row(apart.pool, run_id)
    due = await run_rows.queued_runs(apart.pool, later + timedelta(seconds=120))

    assert early == []
    assert (kept["status"], kept["attempt"]) == ("queued", 2)
    assert [run.run_id for run in due] == [run_id]


async def test_a_site_that_asks_too_long_fails_and_the_others_keep_what_they_have(
    apart: WorkerContext, standin: Standin
) -> None:
    standin.fault("/bet9ja", "retry_after", status=429, retry_after="3600")

    run_id = await worker_harness.perform(apart)
    row = await worker_harness.run_row(apart.pool, run_id)
    sources = await worker_harness.source_rows(apart.pool, run_id)

    assert (row["status"], row["error_type"]) == ("partial_failure", "rate_limited")
    assert sources["bet9ja"]["status"] == "failure"
    assert sources["bet9ja"]["requests"] == 1
    assert row["stats"]["events_scraped"] == 60
