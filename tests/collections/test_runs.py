"""A collection's run: through the executor, into the items of the organisation only."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.store import tenancy
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.collections import harness
from tests.configs import config_for
from tests.wait import until
from workers import odds
from workers.collection import collection
from workers.execute import execute
from workers.item_storage import OrgItemStorage

PLATFORMS = {"sportybet", "betpawa", "bet9ja"}


async def test_the_odds_preset_ends_in_the_organisations_items(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)

    run = await acme.run()

    kept = await acme.items()
    listed = {(site, m.kickoff) for site, board in standin.world.listed.items() for m in board}
    assert (run["status"], run["error_message"]) == ("success", None)
    assert {source for source, _ in kept} == PLATFORMS
    assert len(kept) == len(listed) == 90
    assert run["stats"]["records"] == run["stats"]["inserted"] == 90
    assert {row["run_id"] for row in kept.values()} == {run["execution_id"]}
    assert await context.pool.fetchval("SELECT count(*) FROM odds_events") == 0


async def test_an_item_says_what_the_record_says_and_prices_are_exact(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context)
    await acme.run()
    await worker_harness.perform(context)

    kept = await acme.items()
    rows = await context.pool.fetch("SELECT * FROM odds_events")
    prices = await context.pool.fetch(
        "SELECT e.platform, e.platform_event_id, p.market, p.outcome, p.line, p.price"
        " FROM odds_prices p JOIN odds_events e ON e.id = p.event_id"
    )
    said = {
        (source, key, p["market"], p["outcome"], p["line"], p["price"])
        for (source, key), row in kept.items()
        for p in row["data"]["prices"]
    }

    assert len(rows) == 90
    for row in rows:
        data = kept[row["platform"], row["platform_event_id"]]["data"]
        assert (data["home"], data["away"]) == (row["home"], row["away"])
        assert data["kickoff"] == row["kickoff"].isoformat().replace("+00:00", "Z")
    assert len(said) == len(prices)
    assert {(*s[:4], float(s[4] or 0), float(s[5])) for s in said} == {
        (*tuple(p)[:4], float(p["line"] or 0), float(p["price"])) for p in prices
    }


async def test_what_the_operator_and_other_organisations_know_of_a_page_is_not_believed(
    context: WorkerContext,
) -> None:
    await worker_harness.perform(context)
    acme, bolt = await harness.client(context, "Acme"), await harness.client(context, "Bolt")

    first, second = await acme.run(), await bolt.run()
    again = await acme.run()

    assert first["stats"]["inserted"] == second["stats"]["inserted"] == 90
    assert first["stats"]["pages_unchanged"] == second["stats"]["pages_unchanged"] == 0
    assert again["stats"]["pages_unchanged"] == again["stats"]["pages"] > 0
    assert (again["stats"]["unchanged"], again["stats"]["inserted"]) == (90, 0)
    assert (await acme.items()).keys() == (await bolt.items()).keys()


async def test_a_second_run_changes_the_items_whose_prices_moved_and_no_others(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)
    await acme.run()
    before = await acme.items()
    standin.advance()

    run = await acme.run()

    after = await acme.items()
    moved = {key for key, row in after.items() if row["data"] != before[key]["data"]}
    assert 0 < len(moved) == run["stats"]["changed"] < 90
    assert {k for k, row in after.items() if row["changed_at"] != before[k]["changed_at"]} == moved
    assert {after[key]["run_id"] for key in moved} == {run["execution_id"]}


async def test_an_organisations_transaction_sees_its_items_and_no_others(
    context: WorkerContext,
) -> None:
    acme, bolt = await harness.client(context, "Acme"), await harness.client(context, "Bolt")
    await acme.run()
    await bolt.choose({"source": "bet9ja"})
    await bolt.run()

    async with tenancy.org_transaction(context.pool, bolt.org_id) as connection:
        seen = await connection.fetch("SELECT DISTINCT org_id, source FROM items")
        pages = await connection.fetch("SELECT DISTINCT source FROM raw_pages")

    assert [tuple(row) for row in seen] == [(bolt.org_id, "bet9ja")]
    assert [row["source"] for row in pages] == ["bet9ja"]


async def test_a_page_is_committed_as_its_organisation_so_that_postgres_guards_the_worker(
    context: WorkerContext,
) -> None:
    acme, bolt = await harness.client(context, "Acme"), await harness.client(context, "Bolt")
    run_id = await acme.queue()

    source = next(s for s in odds.every_source(context.config) if s.name == "bet9ja")
    group = OrgItemStorage(odds.GROUP, bolt.org_id, source.name)
    astray = worker_harness.collecting(source, group=group, name="collection")

    await execute(worker_harness.ctx_of(context), astray, str(run_id))

    run = await acme.run_row(run_id)
    assert (run["status"], run["error_type"]) == ("failure", "InsufficientPrivilegeError")
    assert await acme.items() == await bolt.items() == {}


async def test_one_organisations_failing_source_leaves_its_others_and_other_runs_alone(
    context: WorkerContext, standin: Standin
) -> None:
    acme, bolt = await harness.client(context, "Acme"), await harness.client(context, "Bolt")
    await bolt.choose({"source": "betpawa"})
    standin.fault("/sportybet", "html")

    ours, theirs = await asyncio.gather(acme.run(), bolt.run())

    assert (ours["status"], theirs["status"]) == ("partial_failure", "success")
    assert ours["sources"]["sportybet"]["status"] == "failure"
    assert len(await acme.items()) == 60
    assert len(await bolt.items()) == 30


async def test_what_no_source_lists_any_more_is_missing_until_it_returns(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)
    await acme.run()
    gone = ("bet9ja", "gone")
    await context.pool.execute(
        "INSERT INTO items (org_id, source, key, content_hash, first_seen, last_seen, changed_at)"
        " VALUES ($1, $2, $3, '', now(), now(), now())",
        acme.org_id,
        *gone,
    )
    standin.advance()

    await acme.run()
    doubted = {key for key, row in (await acme.items()).items() if row["missing_since"]}
    await acme.run()

    assert doubted == set()
    missing = {key for key, row in (await acme.items()).items() if row["missing_since"]}
    assert missing == {gone}


async def test_a_listing_in_part_makes_nothing_missing(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)
    await acme.run()
    standin.advance()
    for path in ("/sportybet", "/bet9ja"):
        standin.fault(path, "partial")

    run = await acme.run()

    missing = {key for key, row in (await acme.items()).items() if row["missing_since"]}
    assert run["status"] == "partial_failure"
    assert {source for source, _ in missing} <= {"betpawa"}  # it does not say how many there are


async def test_a_run_of_no_organisation_says_how_to_ask_for_one(context: WorkerContext) -> None:
    ctx = worker_harness.ctx_of(context, arq_id=uuid4().hex)

    await execute(ctx, collection)

    row = await context.pool.fetchrow("SELECT * FROM runs")
    assert row is not None
    assert (row["status"], row["error_type"]) == ("failure", "BadPreset")
    assert "POST /collection/run" in row["error_message"]


@pytest.mark.parametrize(
    ("preset", "sources", "fault"),
    [
        (None, None, "no preset is chosen"),
        ("own", [], "name at least one source"),
        ("own", [{"source": "gone"}], "unknown source 'gone'"),
        ("own", [{"source": "bet9ja", "params": {"x": 1}}], "sources.0.params.x"),
    ],
)
async def test_a_preset_that_cannot_be_run_fails_the_run_with_a_sentence(
    context: WorkerContext, preset: str | None, sources: list[dict[str, Any]] | None, fault: str
) -> None:
    acme = await harness.client(context, preset=None)
    if preset is not None:
        await acme.choose(*(sources or ()))

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("failure", "BadPreset")
    assert fault in run["error_message"]
    assert "Traceback" not in run["error_message"]
    assert run["sources"] == {}


async def test_a_run_taken_up_again_does_what_its_first_attempt_settled(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context)
    run_id = await acme.queue()
    await context.pool.execute(
        "UPDATE runs SET params = $2 WHERE execution_id = $1",
        run_id,
        {"preset": "old", "sources": [{"source": "bet9ja"}]},
    )

    run = await acme.run(run_id)

    assert list(run["sources"]) == ["bet9ja"]
    assert {source for source, _ in await acme.items()} == {"bet9ja"}


@pytest.mark.parametrize("page", [1, 2, 5])
async def test_a_run_cut_off_after_any_page_and_taken_up_again_leaves_the_same_items(
    context: WorkerContext, page: int
) -> None:
    calm, cut = await harness.client(context, "Calm"), await harness.client(context, "Cut")
    whole = await calm.run()
    run_id = await cut.queue()
    doing = asyncio.create_task(cut.run(run_id))

    async def far_enough() -> bool:
        pages = "SELECT coalesce((stats ->> 'pages')::int, 0) FROM runs WHERE execution_id = $1"
        return await context.pool.fetchval(pages, run_id) >= page

    await until(far_enough)
    doing.cancel()
    first = await doing
    again = await cut.run(run_id)

    assert (first["status"], again["status"]) == ("queued", "success")
    assert again["attempt"] == 2
    assert said(await cut.items()) == said(await calm.items())
    assert (again["stats"]["inserted"], again["stats"]["records"]) == (90, 90)
    assert whole["stats"]["inserted"] == 90


def said(kept: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], Any]:
    return {key: (row["data"], row["content_hash"]) for key, row in kept.items()}


@pytest.fixture
async def newsroom(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    """A worker context that AskNews knows, which tracks two entities."""
    settings: dict[str, Any] = {
        "asknews_api_key": SecretStr("standin-key"),
        "tracked_entities": ("OpenAI", "AMD"),
        "org_asknews": True,
    }
    async with worker_harness.opened(config_for(dsn, redis_url, standin, **settings), redis) as h:
        yield h


async def test_the_operators_asknews_quota_is_not_spent_unless_the_operator_allows_it(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> None:
    key = SecretStr("standin-key")
    config = config_for(dsn, redis_url, standin, asknews_api_key=key, tracked_entities=("AMD",))
    async with worker_harness.opened(config, redis) as context:
        acme = await harness.client(context)
        await acme.choose({"source": "asknews_news"}, {"source": "asknews_stories"})
        run = await acme.run()

    assert run["status"] == "failure"
    assert "ORG_ASKNEWS" in str(run["sources"])
    assert run["sources"]["asknews_news"]["requests"] == 0


async def test_requests_of_an_organisation_are_counted_as_its_own(
    context: WorkerContext, redis: ArqRedis
) -> None:
    acme = await harness.client(context)
    await acme.choose({"source": "betpawa"})

    run = await acme.run()

    assert run["status"] == "success"
    keys: list[bytes] = [
        key
        async for key in redis.scan_iter("rollcall:limit:*")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - redis-py leaves its keywords open
    ]
    assert any(f":of:{acme.org_id.hex}:".encode() in key for key in keys)
    assert not await redis.exists(*[key.split(b":of:")[0] for key in keys if b":of:" in key])


async def test_news_and_stories_become_items_and_are_read_on_from_where_the_organisation_was(
    newsroom: WorkerContext,
) -> None:
    acme = await harness.client(newsroom)
    await acme.choose(
        {"source": "asknews_news", "params": {"entities": ["OpenAI"]}},
        {"source": "asknews_stories"},
    )

    run = await acme.run()

    kept = await acme.items()
    cursors = await newsroom.pool.fetch("SELECT source, entity FROM news_cursors ORDER BY 1, 2")
    assert (run["status"], run["error_message"]) == ("success", None)
    assert {source for source, _ in kept} == {"asknews_news", "asknews_stories"}
    assert all("entity" not in row["data"] for row in kept.values())
    assert [tuple(row) for row in cursors] == [
        (f"{acme.org_id}/asknews_news", "OpenAI"),
        (f"{acme.org_id}/asknews_stories", "AMD"),
        (f"{acme.org_id}/asknews_stories", "OpenAI"),
    ]
    assert await newsroom.pool.fetchval("SELECT count(*) FROM articles") == 0
    assert run["sources"]["asknews_news"]["done"] == ["OpenAI"]


async def test_a_source_that_cannot_be_opened_fails_by_itself(context: WorkerContext) -> None:
    acme = await harness.client(context)
    await acme.choose({"source": "asknews_news"}, {"source": "bet9ja"})

    run = await acme.run()

    news = run["sources"]["asknews_news"]
    assert (run["status"], run["error_type"]) == ("partial_failure", "auth")
    assert (news["status"], news["requests"]) == ("failure", 0)
    assert "ORG_ASKNEWS" in news["error_message"]
    assert len(await acme.items()) == 30


async def test_a_collection_leaves_no_key_of_its_own_in_redis(
    context: WorkerContext, redis: ArqRedis
) -> None:
    acme = await harness.client(context)

    await acme.run()

    names = [key async for key in redis.scan_iter("rollcall:health:job*")]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - redis-py has no types here
    assert names == []
