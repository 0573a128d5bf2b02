"""Pages are kept as they came, for a while, the same body once."""

import asyncio
import hashlib
import time
from datetime import timedelta
from typing import Any

from arq.connections import ArqRedis

from app.context import WorkerContext
from app.store.content import pages
from app.store.db import Pool
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.fetch.hostile import Visit, serving
from tests.longest_step import longest_step
from tests.pages.toy_source import Site, Toy, scrape
from workers.maintenance import prune_raw_pages

PAGES = {1: [["a", "2.0"]], 2: [["b", "3.0"]]}


async def kept(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT * FROM raw_pages ORDER BY id")
    return [dict(row) for row in rows]


async def bodies(pool: Pool) -> int:
    return await pool.fetchval("SELECT count(*) FROM raw_bodies")


async def test_every_page_of_a_run_can_be_recalled_as_it_came(context: WorkerContext) -> None:
    site = Site(PAGES, etag='"1"')
    async with serving(site) as base:
        row = await scrape(context, Toy(base))

    rows = await kept(context.pool)
    recalled = [await pages.load_body(context.pool, row["body_hash"]) for row in rows]
    assert recalled == [site.body(n) for n in (1, 2, 3)]
    assert [(r["execution_id"], r["source"], r["partition"]) for r in rows] == [
        (row["execution_id"], "toy", "all")
    ] * 3
    assert [(r["page"], r["status"], r["url"]) for r in rows] == [
        (n, 200, f"{base}?page={n}") for n in (1, 2, 3)
    ]
    assert rows[0]["headers"] == {"content-type": "application/json", "etag": '"1"'}


async def test_a_page_that_could_not_be_read_is_kept_for_a_mended_parser(
    context: WorkerContext,
) -> None:
    async with serving(Site({1: ["broken"]})) as base:
        await scrape(context, Toy(base))

    (row,) = await kept(context.pool)
    assert await pages.load_body(context.pool, row["body_hash"]) == b'["broken"]'


async def test_the_same_body_is_kept_once(context: WorkerContext) -> None:
    async with serving(Site({n: [["a", "2.0"]] for n in (1, 2, 3)})) as base:
        await scrape(context, Toy(base))

    assert len(await kept(context.pool)) == 4
    assert await bodies(context.pool) == 2


async def test_catalogues_are_kept_too(context: WorkerContext) -> None:
    await worker_harness.perform(context, params={"platforms": ["bet9ja"]})

    rows = await kept(context.pool)
    assert rows[0]["partition"] is None
    assert all(row["partition"] for row in rows[1:])
    body = await pages.load_body(context.pool, rows[0]["body_hash"])
    assert body is not None
    assert b'"PAL"' in body


async def test_nothing_is_kept_when_it_is_switched_off(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> None:
    config = config_for(dsn, redis_url, standin, raw_days=0)
    async with (
        worker_harness.opened(config, redis) as context,
        serving(Site(PAGES, etag='"1"')) as base,
    ):
        await scrape(context, Toy(base))
        again = await scrape(context, Toy(base))

        assert again["pages_unchanged"] == 3
        assert await kept(context.pool) == []
        assert await bodies(context.pool) == 0


async def test_old_pages_are_forgotten_and_bodies_with_their_last_page(
    context: WorkerContext,
) -> None:
    site = Site(dict(PAGES))
    async with serving(site) as base:
        await scrape(context, Toy(base))
        context.clock.skew = timedelta(days=2)
        site.pages[2] = [["b", "3.5"]]
        await scrape(context, Toy(base))
    context.clock.skew = timedelta(days=3, minutes=1)

    await prune_raw_pages({"context": context})

    rows = await kept(context.pool)
    assert [row["page"] for row in rows] == [1, 2, 3]
    assert await bodies(context.pool) == 3
    context.clock.skew = timedelta(days=9)
    await prune_raw_pages({"context": context})
    assert (await kept(context.pool), await bodies(context.pool)) == ([], 0)
    assert await context.pool.fetchval("SELECT count(*) FROM page_validators") == 0


async def test_pruning_goes_batch_by_batch_until_nothing_is_left(context: WorkerContext) -> None:
    async with serving(Site({n: [[f"e{n}", "2.0"]] for n in range(1, 8)})) as base:
        await scrape(context, Toy(base))
    later = context.clock() + timedelta(days=9)

    gone = await asyncio.gather(*(pages.prune(context.pool, later, 3, batch=2) for _ in range(2)))

    assert sum(gone) == 3 * 8
    assert (await kept(context.pool), await bodies(context.pool)) == ([], 0)


async def test_a_body_in_use_again_survives_a_pruning_at_the_same_time(
    context: WorkerContext,
) -> None:
    async with serving(Site(PAGES)) as base:
        await scrape(context, Toy(base))
    row = (await kept(context.pool))[0]
    await context.pool.execute("DELETE FROM raw_pages")
    later = context.clock() + timedelta(days=9)

    async with context.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE raw_bodies SET used_at = $1 WHERE hash = $2", later, row["body_hash"]
        )
        pruning = asyncio.create_task(pages.prune(context.pool, later, 3))
        await pruning

    assert await pages.load_body(context.pool, row["body_hash"]) is not None
    assert await bodies(context.pool) == 1


async def test_a_large_body_is_packed_without_holding_up_the_loop() -> None:
    body = b" ".join(b"%d" % n for n in range(2_000_000))
    began = time.thread_time()
    named = hashlib.sha256(body).digest()
    hashing = time.thread_time() - began

    async with longest_step() as packing:
        small = await pages.compressed(body)
    async with longest_step() as digesting:
        digest = await pages.digest(body)

    assert (digest, len(small) < len(body) / 10) == (named, True)
    assert packing.seconds < hashing, "seconds of this thread's processor; packing takes ten times"
    assert digesting.seconds < hashing / 2


async def test_an_etag_outside_ascii_is_kept_and_never_sent_back(
    context: WorkerContext,
) -> None:
    heads: list[str] = []

    async def odd(visit: Visit) -> None:
        heads.append(visit.head.lower())
        body = b"[]" if "page=2" in visit.path else b'[["a", "2.0"]]'
        facts = b"connection: close\r\ncontent-length: %d\r\n" % len(body)
        await visit.say(b'HTTP/1.1 200 OK\r\netag: "\xff"\r\n' + facts + b"\r\n" + body)

    async with serving(odd) as base:
        await scrape(context, Toy(base))
        again = await scrape(context, Toy(base))

    assert again["pages_unchanged"] == 2
    assert (await kept(context.pool))[0]["headers"] == {"etag": '"\xff"'}
    assert not any("if-none-match" in head for head in heads)
