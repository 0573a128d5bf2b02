"""An organisation that leaves: all it has is exported, then deleted, and counts prove it."""

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from arq.connections import ArqRedis

from app.core.cache_bounds import UNKNOWN
from app.core.records import Item
from app.orgs import admin, leaving
from app.queue import org_queue
from app.runs import log
from app.store import tenancy
from app.store.content import items
from app.store.db import Pool
from app.store.orgs import leaving as store
from app.store.orgs import orgs
from app.store.runs.run_rows import QueuedRun
from tests.orgs.furnishing import NOW, TABLES, furnish, furnish_rows


async def furnished(pool: Pool, redis: ArqRedis, name: str) -> UUID:
    """An organisation with rows in every table, also in those without an owner, and in Redis."""
    org = await furnish(pool, name)
    run: UUID = await pool.fetchval("SELECT execution_id FROM runs WHERE org_id = $1", org)
    await pool.execute(
        "INSERT INTO news_cursors (source, entity, cursor, run_id) VALUES ($1, 'x', $2, $3)",
        f"{org}/asknews_news",
        NOW,
        run,
    )
    await pool.execute(
        "INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts)"
        " VALUES ('c', $1, '', $2, $2, 0)",
        f"collection:{org} is failing",
        NOW,
    )
    await pool.execute(
        "INSERT INTO health_flips (key, sequence, at, before, after, since)"
        " VALUES ($1, 1, $2, 'healthy', 'unhealthy', $2)",
        f"collection:{org}",
        NOW,
    )
    for key in (
        f"rollcall:log:{run}",
        f"rollcall:limit:example.org:443:of:{org.hex}:none",
        f"rollcall:limit:hosts:{org.hex}",
        f"rollcall:api:tried:{org}",
    ):
        await redis.set(key, "x", ex=60)
    await log.BOUNDS.apply(redis, org.hex, [f"rollcall:log:{run}"])
    await log.BOUNDS.apply(redis, UNKNOWN, [f"rollcall:log:{run}"])
    await org_queue.add_runs(redis, [QueuedRun(run, "collection")])
    return org


@pytest.mark.parametrize("interrupted", [False, True])
async def test_nothing_is_left_of_it_and_everything_of_the_others(
    pool: Pool, redis: ArqRedis, interrupted: bool
) -> None:
    leaver, other = [await furnished(pool, redis, name) for name in ("Leaver", "Other")]
    await furnish_rows(pool, None, None)
    found = await admin.find(pool, leaver)
    others = await store.counts(pool, other, await store.run_ids(pool, other))
    operator = {table: await operator_rows(pool, table) for table in ("items", "runs", "schedules")}
    if interrupted:
        await pool.execute("DELETE FROM items WHERE org_id = $1", leaver)

    before, after = await leaving.delete(pool, redis, found, NOW)

    gone = {"items", "org_usage"} if interrupted else set[str]()
    assert set(before) >= (set(TABLES) | set(store.ELSEWHERE) | {"redis"}) - gone - {
        "health_states",
        "metric_pending",
    }
    # Of its log: an index, the bytes of it, two entries of those of unknown owners, and its bytes
    # among all tenants'.
    assert before["redis"] == 11
    assert after == {}
    assert await orgs.one(pool, leaver) is None
    assert not await redis.zscore(log.BOUNDS.shared_indexes[0], leaver.hex)
    assert await redis.zscore(log.BOUNDS.shared_indexes[0], other.hex)
    shared = log.BOUNDS.shared_bytes
    left: dict[bytes, float] = dict(await cast("Any", redis).zrange(shared, 0, -1, withscores=True))
    assert left.pop(b"total") == sum(left.values())
    assert len(left) == 1
    assert str(leaver) not in str(await redis.keys("*"))  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    assert await store.counts(pool, other, await store.run_ids(pool, other)) == others
    assert {table: await operator_rows(pool, table) for table in operator} == operator


class BreakingPool:
    """The pool of a process that dies before one of its statements."""

    def __init__(self, pool: Pool, statements: int) -> None:
        self._pool, self._left = pool, statements

    def __getattr__(self, name: str) -> Any:
        if name in ("execute", "acquire"):
            self._left -= 1
            if self._left < 0:
                raise ConnectionError
        return getattr(self._pool, name)


@pytest.mark.parametrize("statements", range(4, 24))
async def test_wherever_it_is_interrupted_the_next_attempt_leaves_nothing(
    pool: Pool, redis: ArqRedis, statements: int
) -> None:
    leaver = await furnished(pool, redis, "Leaver")
    found = await admin.find(pool, leaver)
    run = (await store.run_ids(pool, leaver))[0]

    with suppress(ConnectionError):
        await leaving.delete(cast("Pool", BreakingPool(pool, statements)), redis, found, NOW)
    if await orgs.one(pool, leaver) is not None:
        await leaving.delete(pool, redis, found, NOW)

    assert await pool.fetchval("SELECT count(*) FROM raw_bodies") == 0
    keys = str(await redis.keys("*"))  # pyright: ignore[reportUnknownMemberType] - as above
    assert str(run) not in keys
    assert run.hex not in keys
    assert str(run) not in str(await cast("Any", redis).zrange(org_queue.ORG_QUEUE, 0, -1))


async def operator_rows(pool: Pool, table: str) -> int:
    return await pool.fetchval(f"SELECT count(*) FROM {table} WHERE org_id IS NULL")  # noqa: S608 - our own


async def test_alerts_of_the_operator_with_the_letters_of_its_name_stay(
    pool: Pool, redis: ArqRedis
) -> None:
    leaver = await furnish(pool, "news")
    await pool.execute(
        "INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts)"
        " VALUES ('c', 'poll_news is failing', 'poll_news: failing since noon.', $1, $1, 0)",
        NOW,
    )

    await leaving.delete(pool, redis, await admin.find(pool, leaver), NOW)

    assert await pool.fetchval("SELECT title FROM notifications") == "poll_news is failing"


async def test_a_body_that_another_has_too_stays(pool: Pool, redis: ArqRedis) -> None:
    leaver, other = [await furnish(pool, name) for name in ("Leaver", "Other")]
    await pool.execute("UPDATE raw_pages SET body_hash = (SELECT min(hash) FROM raw_bodies)")

    await leaving.delete(pool, redis, await admin.find(pool, leaver), NOW)

    async with tenancy.org_transaction(pool, other) as connection:
        assert await connection.fetchval("SELECT count(*) FROM raw_bodies") == 1


async def test_the_export_has_every_row_and_no_secret(
    pool: Pool, redis: ArqRedis, tmp_path: Path
) -> None:
    org = await furnished(pool, redis, "Leaver")
    await furnish(pool, "Other")
    async with tenancy.org_transaction(pool, org) as connection:
        page = [Item("shop", f"k{number}", {"n": number}) for number in range(1200)]
        await items.write(connection, org, "shop", page, NOW, UUID(int=1))
    found = await admin.find(pool, org)

    with leaving.new_file(tmp_path / "leaver.zip") as file:
        written = await leaving.export(pool, found, file)

    with zipfile.ZipFile(tmp_path / "leaver.zip") as archive:
        tables = {
            name.removesuffix(".jsonl"): [json.loads(x) for x in archive.read(name).splitlines()]
            for name in archive.namelist()
        }
    counts = await store.counts(pool, org, [])
    counts["notifications"] -= 1  # one of the operator, which names it
    assert {table: len(rows) for table, rows in tables.items() if rows} == written
    assert written == {t: n for t, n in counts.items() if t not in store.ELSEWHERE or t in TABLES}
    assert written["items"] == 1201
    assert tables["organizations"][0]["name"] == "Leaver"
    assert "hash" not in tables["api_tokens"][0]
    assert "ciphertext" not in tables["org_secrets"][0]
    with pytest.raises(FileExistsError), leaving.new_file(tmp_path / "leaver.zip"):
        pass


def test_a_part_of_an_export_is_not_kept(tmp_path: Path) -> None:
    def interrupted() -> None:
        with leaving.new_file(tmp_path / "x.zip") as file:
            file.write(b"a part")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not (tmp_path / "x.zip").exists()
