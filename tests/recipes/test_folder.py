"""SOURCES_DIR: every file is a source with a schedule of its own, and a bad one hurts no other."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from arq import Retry
from arq.connections import ArqRedis

from app.context import WorkerContext
from app.core.errors import BadConfig
from app.health import keys as health
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.health.facts import WorkerFacts
from app.ledger import decide, edit
from app.store.content import cursors as store
from app.store.servers import ServerUrls
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.fetch.hostile import Visit
from tests.recipes.shop import Shop, ask, items, open_shop, ware, write
from tests.wait import until
from workers import deciding, registry, source
from workers import lifecycle as opening
from workers.execute import execute

GOOD = """
name = "{name}"
kind = "json"
url = "{base}/wares"
[schedule]
{schedule}
[extract]
records = "items"
[extract.fields]
id = "id"
at = {{ path = "at", type = "datetime" }}
[store]
key = "id"
[limits]
rate = 50
"""
FEED = """
name = "news"
kind = "feed"
url = "{base}/news"
[schedule]
every = "auto"
"""
RSS = (
    b'<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><ttl>120</ttl>'
    b"<item><guid>1</guid><title>one</title></item></channel></rss>"
)


def good(base: str, name: str = "wares", schedule: str = 'every = "15m"') -> str:
    return GOOD.format(base=base, name=name, schedule=schedule)


async def scheduled(context: WorkerContext, name: str) -> dict[str, Any]:
    """Its next tick is due, and is run; the run's row."""
    key = f"source:{name}"
    due = await context.pool.fetchval("SELECT next_tick_at FROM schedules WHERE key = $1", key)
    (queued,) = await decide.decide_schedule(context.pool, key, due)
    await execute(worker_harness.ctx_of(context), source.collect_recipe, str(queued.run_id))
    return await worker_harness.run_row(context.pool, queued.run_id)


async def register(context: WorkerContext) -> None:
    await edit.register(context.pool, registry.declared_schedules(context.config), context.clock())


async def test_every_recipe_is_a_schedule_with_an_alarm(
    kitchen: WorkerContext, folder: Path
) -> None:
    write(folder, "wares", good("https://site.test"))
    write(folder, "daily", good("https://site.test", "daily", 'cron = "0 6 * * *"'))

    declared = {one.key: one for one in registry.declared_schedules(kitchen.config)}

    assert declared["source:wares"].schedule.describe() == "every 15 minutes"
    assert "source:daily" in declared
    (entry, *_) = deciding.deciding_entries(deciding.triggers_of([declared["source:wares"]]), 15)
    assert entry.name == "ring:source:wares"
    assert not registry.recipe_faults(kitchen.config)


async def test_a_tick_of_a_recipe_runs_it(kitchen: WorkerContext, shop: Shop, folder: Path) -> None:
    write(folder, "wares", good(shop.base))
    await register(kitchen)

    run = await scheduled(kitchen, "wares")

    assert (run["status"], run["job"], run["trigger"]) == ("success", "source", "scheduled")
    assert len(await items(kitchen)) == 3


async def test_a_bad_file_names_its_fault_and_leaves_the_others_alone(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "bad", good(shop.base, "bad").replace('"json"', '"jsn"'))
    write(folder, "wares", good(shop.base))
    write(folder, "other", good(shop.base, "renamed"))
    await register(kitchen)

    faults = registry.recipe_faults(kitchen.config)
    bad, wares = await scheduled(kitchen, "bad"), await scheduled(kitchen, "wares")

    assert len(faults) == 2
    assert faults[0].startswith("bad.toml: line 3: kind: ")
    assert faults[1].startswith("other.toml: line 1: name: renamed is in the file other.toml")
    assert wares["status"] == "success"
    assert (bad["status"], bad["error_type"]) == ("failure", "BadRecipe")
    assert bad["error_message"] == faults[0]


async def test_a_bad_file_keeps_the_schedule_it_names(kitchen: WorkerContext, folder: Path) -> None:
    write(folder, "bad", good("https://site.test", "bad").replace('"json"', '"jsn"'))

    (declared,) = [d for d in registry.declared_schedules(kitchen.config) if d.key == "source:bad"]

    assert declared.schedule.describe() == "every 15 minutes"


async def test_a_source_cannot_take_the_name_of_a_built_in_one(
    kitchen: WorkerContext, folder: Path
) -> None:
    write(folder, "sportybet", good("https://site.test", "sportybet"))

    assert (
        "sportybet is built in (choose another name)" in registry.recipe_faults(kitchen.config)[0]
    )


async def test_a_recipe_that_is_gone_is_switched_off_and_comes_back(
    kitchen: WorkerContext, folder: Path
) -> None:
    write(folder, "wares", good("https://site.test"))
    await register(kitchen)
    (folder / "wares.toml").unlink()

    await opening.disable_removed_recipes(kitchen, registry.declared_schedules(kitchen.config))
    gone = await kitchen.pool.fetchval("SELECT enabled FROM schedules WHERE key = 'source:wares'")
    write(folder, "wares", good("https://site.test"))
    await register(kitchen)

    assert gone is False
    assert await kitchen.pool.fetchval("SELECT enabled FROM schedules WHERE key = 'source:wares'")
    assert await kitchen.pool.fetchval(
        "SELECT bool_and(enabled) FROM schedules WHERE job = 'scrape_all_platforms'"
    ) in {None, True}


async def other_worker(context: WorkerContext, *keys: str) -> None:
    """Another worker lives, and declares these schedules."""
    facts = WorkerFacts(seen_at=context.clock(), jobs=keys)
    await health.write_worker(context.redis, "other", 60, facts)


async def test_a_recipe_that_another_worker_has_is_not_switched_off(
    kitchen: WorkerContext, folder: Path
) -> None:
    for name in ("wares", "gone"):
        write(folder, name, good("https://site.test", name))
    await register(kitchen)
    (folder / "wares.toml").unlink()
    (folder / "gone.toml").unlink()
    await other_worker(kitchen, "source:wares")

    await opening.disable_removed_recipes(kitchen, registry.declared_schedules(kitchen.config))

    rows = await kitchen.pool.fetch("SELECT key FROM schedules WHERE job = 'source' AND enabled")
    assert [row["key"] for row in rows] == ["source:wares"]


async def emptied(redis: ArqRedis) -> None:
    """Redis loses what it has."""
    await redis.flushdb()  # pyright: ignore[reportUnknownMemberType]


async def silent(redis: ArqRedis) -> None:
    """A worker sends no heartbeat until its key has expired."""

    async def unseen() -> bool:
        return not await health.read_workers(redis)

    await until(unseen, 30)


@pytest.mark.parametrize("vanish", [emptied, silent])
async def test_a_recipe_that_was_switched_off_while_its_worker_was_unseen_is_switched_on_again(
    kitchen: WorkerContext,
    folder: Path,
    dsn: str,
    redis_url: str,
    vanish: Callable[[ArqRedis], Awaitable[None]],
) -> None:
    for name in ("wares", "gone"):
        write(folder, name, good("https://site.test", name))
    config = kitchen.config.model_copy(update={"lease_seconds": 4})
    ctx: dict[str, Any] = {"redis": kitchen.redis}
    await opening.startup(config, ServerUrls(dsn, redis_url), registry.load(config))(ctx)
    try:
        await vanish(kitchen.redis)
        await opening.disable_removed_recipes(kitchen, ())  # as a worker without recipes does
        (folder / "gone.toml").unlink()

        await ctx["heartbeat"]()
    finally:
        await opening.shutdown(ctx)

    rows = await kitchen.pool.fetch("SELECT key FROM schedules WHERE job = 'source' AND enabled")
    assert [row["key"] for row in rows] == ["source:wares"]


async def test_a_run_of_a_recipe_that_only_another_worker_has_is_left_to_it(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", good(shop.base))
    await register(kitchen)
    text = (folder / "wares.toml").read_text("utf-8")
    (folder / "wares.toml").unlink()
    await other_worker(kitchen, "source:wares")

    with pytest.raises(Retry):
        await scheduled(kitchen, "wares")
    with pytest.raises(Retry):
        await worker_harness.perform(kitchen, job=source.collect_recipe, params={"source": "wares"})
    (left,) = await kitchen.pool.fetch("SELECT * FROM runs")
    events = await kitchen.pool.fetch("SELECT * FROM run_events")
    (folder / "wares.toml").write_text(text, "utf-8")
    ctx = worker_harness.ctx_of(kitchen)
    await execute(ctx, source.collect_recipe, str(left["execution_id"]))

    assert (left["status"], left["attempt"], events) == ("queued", 1, [])
    row = await worker_harness.run_row(kitchen.pool, left["execution_id"])
    assert (row["status"], row["attempt"]) == ("success", 1)


async def test_a_run_of_a_recipe_that_no_other_worker_has_is_a_failure(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", good(shop.base))
    await register(kitchen)
    (folder / "wares.toml").unlink()
    # Both have read it at their start: left to each other, the run would never end.
    await other_worker(kitchen, "source:wares")
    facts = WorkerFacts(seen_at=kitchen.clock(), jobs=("source:wares",))
    await health.write_worker(kitchen.redis, kitchen.worker, 60, facts)

    run = await scheduled(kitchen, "wares")

    assert (run["status"], run["error_type"]) == ("failure", "BadRecipe")
    assert run["error_message"] == "there is no recipe 'wares' in SOURCES_DIR"


async def test_ticks_that_were_due_before_a_recipe_was_gone_are_not_said_to_be_disabled(
    kitchen: WorkerContext, folder: Path
) -> None:
    write(folder, "wares", good("https://site.test", schedule='every = "1m"\noverlap = "allow"'))
    declared = registry.declared_schedules(kitchen.config)
    minute = kitchen.clock().replace(second=0, microsecond=0)
    await edit.register(kitchen.pool, declared, minute - timedelta(minutes=10))
    (folder / "wares.toml").unlink()

    await opening.disable_removed_recipes(kitchen, registry.declared_schedules(kitchen.config))

    rows = await kitchen.pool.fetch(
        "SELECT outcome, reason, r.status, r.error_message FROM ticks t"
        " JOIN schedules s ON s.id = t.schedule_id AND s.key = 'source:wares' AND NOT s.enabled"
        " LEFT JOIN runs r ON r.execution_id = t.run_id ORDER BY t.scheduled_for"
    )
    *missed, newest = [tuple(row) for row in rows]
    assert set(missed) == {("missed", "scheduler_down", None, None)}
    assert newest == ("ran", None, "cancelled", "the recipe no longer exists")


async def test_a_folder_that_is_not_there_stops_the_start_with_a_line(
    kitchen: WorkerContext, folder: Path
) -> None:
    folder.rmdir()  # noqa: ASYNC240 - a test's own folder

    with pytest.raises(BadConfig, match=r"SOURCES_DIR = .*: there is no such folder"):
        registry.declared_schedules(kitchen.config)


async def test_a_worker_that_starts_registers_the_folder(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin, folder: Path
) -> None:
    write(folder, "wares", good("https://site.test"))
    write(folder, "bad", "kind =")
    config = config_for(dsn, redis_url, standin, sources_dir=folder)
    ctx: dict[str, Any] = {"redis": redis}
    await opening.startup(config, ServerUrls(dsn, redis_url), registry.load(config))(ctx)
    try:
        keys = await ctx["context"].pool.fetch("SELECT key FROM schedules ORDER BY key")

        assert {"source:bad", "source:wares"} <= {row["key"] for row in keys}
        assert "source" in ctx["known_jobs"]
    finally:
        await opening.shutdown(ctx)


async def test_a_feed_that_wants_to_be_left_alone_is_not_asked_before_its_time(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "news", FEED.format(base=shop.base))
    shop.paths["/news"] = ("200 OK", RSS, {"content_type": "application/rss+xml"})
    await register(kitchen)
    first = await scheduled(kitchen, "news")

    early = await scheduled(kitchen, "news")
    by_hand = await worker_harness.run_row(kitchen.pool, await ask(kitchen, "news"))

    assert (first["status"], first["stats"]["rows"]) == ("success", 1)
    assert (early["status"], early["stats"]) == ("success", {"resting": 1, "requests": 0})
    assert by_hand["stats"]["rows"] == 1
    assert len(shop.asked) == 2
    wanted = await store.next_due_at(kitchen.pool, None, "news")
    assert wanted is not None
    assert wanted - kitchen.clock() > timedelta(minutes=110)


async def test_a_feed_whose_time_has_come_is_asked(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "news", FEED.format(base=shop.base))
    shop.paths["/news"] = ("200 OK", RSS, {"content_type": "application/rss+xml"})
    await register(kitchen)
    await scheduled(kitchen, "news")
    await store.set_interval(kitchen.pool, None, "news", 300, kitchen.clock())

    again = await scheduled(kitchen, "news")

    assert again["stats"]["rows"] == 1


async def test_a_run_of_a_source_that_is_not_there_says_so(kitchen: WorkerContext) -> None:
    run = await worker_harness.run_row(kitchen.pool, await ask(kitchen, "nowhere"))

    assert run["error_message"] == "there is no recipe 'nowhere' in SOURCES_DIR"


INCREMENTAL = '[incremental]\nparam = "since"\n{more}\n'


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('field = "at"', "since=2026-09-05T12:00:03Z"),
        ('field = "at"\noverlap = "1m"', "since=2026-09-05T11:59:03Z"),
        ('field = "id"\nformat = "plain"', "since=3"),
        ('field = "at"\nformat = "date"', "since=2026-09-05"),
        ('field = "at"\nformat = "unix"', "since=1788609603"),
    ],
)
async def test_the_next_run_asks_from_where_the_last_one_ended(
    kitchen: WorkerContext, shop: Shop, folder: Path, more: str, expected: str
) -> None:
    text = good(shop.base) + INCREMENTAL.format(more='start = "2020-01-01"\n' + more)
    write(folder, "wares", text)
    await ask(kitchen, "wares")

    await ask(kitchen, "wares")

    assert "since=2020-01-01" in shop.asked[0]
    assert expected in unquote(shop.asked[1])


@pytest.mark.parametrize(
    ("listed", "more", "expected"),
    [
        (12340615, "", "since=12340615"),  # a date of the year 1234, if read as one
        (1700010112345, 'format = "unix_ms"', "since=1700010112345"),
        (1700010112345, 'format = "unix_ms"\noverlap = "1m"', "since=1700010052345"),
        (1700010112, 'format = "unix"\noverlap = "1m"', "since=1700010052"),
        (10**17, 'format = "unix"\noverlap = "1m"', "since=100000000000000000"),
    ],
)
async def test_a_cursor_that_is_a_number_is_not_read_as_a_date(
    kitchen: WorkerContext, shop: Shop, folder: Path, listed: int, more: str, expected: str
) -> None:
    shop.wares = [ware(listed, at="2026-09-05T12:00:00Z")]
    write(folder, "wares", good(shop.base) + INCREMENTAL.format(more=f'field = "id"\n{more}'))
    await ask(kitchen, "wares")

    await ask(kitchen, "wares")

    assert shop.asked[1].endswith(expected)


@pytest.mark.parametrize("more", ["", 'format = "plain"'])
async def test_a_row_dated_in_the_future_does_not_move_the_cursor_there(
    kitchen: WorkerContext, shop: Shop, folder: Path, more: str
) -> None:
    """The next runs would ask from 2099 on, find nothing, and succeed."""
    shop.wares = [ware(1), ware(2), ware(3, at="2099-01-01T00:00:00Z")]
    write(folder, "wares", good(shop.base) + INCREMENTAL.format(more=f'field = "at"\n{more}'))
    await ask(kitchen, "wares")

    await ask(kitchen, "wares")

    assert "since=2026-09-05T12:00:02Z" in unquote(shop.asked[1])


@dataclass
class SlowShop(Shop):
    """Takes a while to answer; `asked_at`: when it was asked first."""

    clock: Callable[[], datetime] | None = None
    asked_at: datetime | None = None

    async def __call__(self, visit: Visit) -> None:
        assert self.clock is not None
        self.asked_at = self.asked_at or self.clock()
        await asyncio.sleep(0.2)
        await super().__call__(visit)


async def test_the_time_of_the_last_read_is_before_its_request(
    kitchen: WorkerContext, folder: Path
) -> None:
    """What the site lists while it makes its answer may be in none: the next run asks for it."""
    async with open_shop(SlowShop(clock=kitchen.clock)) as shop:
        assert isinstance(shop, SlowShop)
        write(folder, "wares", good(shop.base) + INCREMENTAL.format(more=""))

        await ask(kitchen, "wares")

    assert shop.asked_at is not None
    cursor = (await store.cursors(kitchen.pool, None, "wares"))["all"]
    assert datetime.fromisoformat(cursor) <= shop.asked_at


async def test_a_run_that_fails_leaves_the_next_to_ask_from_where_it_did(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", good(shop.base) + INCREMENTAL.format(more="") + "[retry]\nattempts = 1")
    await ask(kitchen, "wares")
    before = await store.cursors(kitchen.pool, None, "wares")
    shop.paths["/wares"] = ("500 Internal Server Error", b"", {})

    await ask(kitchen, "wares")

    assert before
    assert await store.cursors(kitchen.pool, None, "wares") == before


async def test_a_secret_of_an_organisation_is_none_of_the_operators(
    kitchen: WorkerContext, folder: Path
) -> None:
    auth = '[auth]\ntype = "bearer"\ntoken = "secret:KEY"\n'
    write(folder, "wares", good("https://site.test") + auth)

    assert "auth.token: secret:KEY is in" in registry.recipe_faults(kitchen.config)[0]


async def test_a_recipes_run_pings_the_address_of_that_recipe_by_hand_too(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", good(shop.base))
    await register(kitchen)
    pings = HeartbeatPings(
        {f"source:{name}": f"{shop.base}/ping/{name}" for name in ("wares", "x")}, None
    )
    ctx = worker_harness.ctx_of(kitchen) | {"pings": pings}
    sql = "SELECT next_tick_at FROM schedules WHERE key = 'source:wares'"
    due = await kitchen.pool.fetchval(sql)
    (queued,) = await decide.decide_schedule(kitchen.pool, "source:wares", due)

    async def heard(number: int) -> bool:
        return shop.asked.count("/ping/wares") == number

    await execute(ctx, source.collect_recipe, str(queued.run_id))
    await until(lambda: heard(1))
    await execute(ctx, source.collect_recipe, params={"source": "wares"})
    await until(lambda: heard(2))
    await pings.close()

    assert "/ping/x" not in shop.asked
