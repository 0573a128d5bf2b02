"""Runs over HTTP: asked for, leafed through, looked at."""

import contextlib
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app.core.enums import Scope
from app.queue.org_queue import ORG_QUEUE, SLOW_SECONDS
from app.store.db import Pool
from app.store.orgs import orgs
from tests.api.clients import ODDS, Org, Visitor, fields, had_run, leaf, problem
from tests.clock import NOON, SettableClock

RUN = "/collection/run"
RUNS = "/collection/runs"


async def test_a_run_that_is_asked_for_is_queued_and_told_to_redis(
    visitor: Visitor, redis: ArqRedis, pool: Pool, org: Org
) -> None:
    await visitor.patch(preset_id=ODDS)

    answer = await visitor("POST", RUN)

    assert answer.status_code == 202, answer.text
    said = answer.json()
    assert said == {
        "run_id": said["run_id"],
        "status": "queued",
        "queued_at": "2026-09-05T12:00:00Z",
    }
    assert answer.headers["location"] == f"{RUNS}/{said['run_id']}"
    row = await pool.fetchrow("SELECT * FROM runs WHERE org_id = $1", org.id)
    assert row is not None
    assert (row["trigger"], row["requested_by"]) == ("manual", "Acme/admin")
    assert row["schedule_id"] is not None
    assert await redis.exists(f"arq:job:run:{said['run_id']}:1")
    shown = (await visitor("GET", answer.headers["location"])).json()
    assert (shown["id"], shown["requested_by"]) == (said["run_id"], "Acme/admin")


async def test_a_slow_organisations_run_waits_as_slow_also_when_it_is_asked_for(
    visitor: Visitor, redis: ArqRedis, pool: Pool, org: Org
) -> None:
    await visitor.patch(preset_id=ODDS)
    before = await had_run(pool, org, NOON)
    await pool.execute(
        "UPDATE runs SET duration_seconds = $2 WHERE execution_id = $1", before, SLOW_SECONDS + 1
    )

    run_id = (await visitor("POST", RUN)).json()["run_id"]

    assert await redis.zscore(f"{ORG_QUEUE}:slow", f"run:{run_id}:1") is not None


async def test_refused_runs_do_not_use_up_the_day(visitor: Visitor, pool: Pool, org: Org) -> None:
    await visitor.patch(preset_id=ODDS)
    await orgs.set_limit(pool, org.id, "runs_per_day", 1)
    refused = await had_run(pool, org, NOON, "failure")
    await pool.execute("UPDATE runs SET error_type = 'over_limit' WHERE execution_id = $1", refused)

    answer = await visitor("POST", RUN)

    assert answer.status_code == 202, answer.text


async def test_while_a_run_is_open_another_is_refused_by_its_name(visitor: Visitor) -> None:
    await visitor.patch(preset_id=ODDS)
    first = (await visitor("POST", RUN)).json()

    answer = await visitor("POST", RUN, json={})

    assert problem(answer, 409)["blocking_run_id"] == first["run_id"]


async def test_without_a_preset_there_is_nothing_to_run(visitor: Visitor) -> None:
    before = await visitor("POST", RUN)
    await visitor.patch(enabled=True)

    after = await visitor("POST", RUN)

    assert problem(before, 409) == problem(after, 409)
    assert "preset_id" in before.json()["detail"]


async def test_a_retired_schedule_has_nothing_to_run(visitor: Visitor) -> None:
    await visitor.patch(preset_id=ODDS)
    await visitor("DELETE", "/collection/schedule")

    problem(await visitor("POST", RUN), 409)


async def test_the_runs_of_a_day_are_limited_and_the_limit_is_named(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    await visitor.patch(preset_id=ODDS)
    await pool.execute("UPDATE organizations SET limits = '{\"runs_per_day\": 2}'")
    await had_run(pool, org, clock() - timedelta(hours=25))
    await had_run(pool, org, clock() - timedelta(hours=23))
    await had_run(pool, org, clock() - timedelta(hours=1))

    answer = await visitor("POST", RUN)
    clock.pass_by(hours=2)
    later = await visitor("POST", RUN)

    assert "runs_per_day = 2" in problem(answer, 429)["detail"]
    assert "ORG_RUNS_PER_DAY" in answer.json()["detail"]
    assert answer.headers["retry-after"]
    assert later.status_code == 202


async def close_connections(redis: ArqRedis) -> None:
    """Close every connection to this Redis database: other tests share the server."""
    server: Any = redis
    own = await server.client_info()
    for client in await server.client_list():
        if client["db"] == str(own["db"]) and client["id"] != str(own["id"]):
            await server.client_kill_filter(_id=client["id"])
    with contextlib.suppress(RedisError, OSError):
        await server.connection_pool.disconnect()


async def test_a_run_is_queued_even_if_redis_is_away(
    visitor: Visitor, pool: Pool, redis: ArqRedis
) -> None:
    await visitor.patch(preset_id=ODDS)
    await close_connections(redis)

    answer = await visitor("POST", RUN)

    assert answer.status_code == 202
    assert await pool.fetchval("SELECT count(*) FROM runs WHERE status = 'queued'") == 1


async def test_runs_are_leafed_through_newest_first_and_each_once(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    made = [await had_run(pool, org, NOON - timedelta(minutes=n // 3)) for n in range(20)]

    rows = await leaf(visitor, RUNS, "runs", limit=3)

    assert sorted(row["id"] for row in rows) == sorted(map(str, made))
    at = [row["queued_at"] for row in rows]
    assert at == sorted(at, reverse=True)


async def test_runs_that_come_while_leafing_shift_nothing(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    made = [await had_run(pool, org, NOON - timedelta(minutes=n)) for n in range(6)]
    first = (await visitor("GET", RUNS, params={"limit": 3})).json()

    await had_run(pool, org, NOON + timedelta(minutes=1))
    await had_run(pool, org, NOON + timedelta(minutes=2))
    second = await visitor("GET", RUNS, params={"limit": 3, "cursor": first["next_cursor"]})

    seen = [row["id"] for row in (*first["runs"], *second.json()["runs"])]
    assert seen == [str(one) for one in made]
    assert second.json()["next_cursor"] is None


async def test_runs_can_be_asked_for_by_status_and_since(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    await had_run(pool, org, NOON - timedelta(hours=3), "failure")
    late = await had_run(pool, org, NOON - timedelta(hours=1), "failure")
    await had_run(pool, org, NOON - timedelta(minutes=30), "success")

    asked = {"status": "failure", "since": "2026-09-05T10:00:00Z"}
    rows = await leaf(visitor, RUNS, "runs", **asked)

    assert [row["id"] for row in rows] == [str(late)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "1_0"}, "limit"),
        ({"limit": "five"}, "limit"),
        ({"status": "done"}, "status"),
        ({"since": "yesterday"}, "since"),
        ({"since": "1"}, "since"),
        ({"since": "2026-09-05T10:00:00"}, "since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": "bnVsbA"}, "cursor"),
        ({"cursor": "WyIyMDI2LTA5LTA1IiwgMV0"}, "cursor"),
        ({"page": "2"}, "page"),
    ],
)
async def test_a_query_that_cannot_be_taken_is_422_with_its_name(
    visitor: Visitor, query: dict[str, str], field: str
) -> None:
    assert fields(await visitor("GET", RUNS, params=query)) == [field]


async def test_a_query_that_says_a_thing_twice_is_refused(visitor: Visitor) -> None:
    assert fields(await visitor("GET", f"{RUNS}?limit=1&limit=2")) == ["limit"]


async def test_one_run_tells_of_its_sources(visitor: Visitor, pool: Pool, org: Org) -> None:
    run_id = await had_run(pool, org, NOON)
    await pool.execute(
        "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
        " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
        " throttled_ms, duration_seconds) VALUES ($1, 'bet9ja', 'success', 1,0,2,3,3,0,0,0,2,0,9,"
        "0,1.5)",
        run_id,
    )

    answer = await visitor("GET", f"{RUNS}/{run_id}")

    (source,) = answer.json()["sources"]
    assert (source["source"], source["pages"], source["inserted"]) == ("bet9ja", 2, 3)


async def test_a_run_that_is_not_there_is_404_whatever_the_id(visitor: Visitor) -> None:
    problem(await visitor("GET", f"{RUNS}/{uuid4()}"), 404)
    problem(await visitor("GET", f"{RUNS}/none"), 404)


async def test_a_reader_may_not_ask_for_a_run(visitor: Visitor, org: Org) -> None:
    reader = Visitor(visitor.client, org.secrets[Scope.READ])

    assert "operate" in problem(await reader("POST", RUN), 403)["detail"]
