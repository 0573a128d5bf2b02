"""Dry runs: one page, nothing stored, nobody's network but the site's, and no secret told."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.fetch.authenticated import FetcherOptions
from app.sources.recipes.load import load
from app.sources.recipes.source import RecipeSource
from app.store.db import Pool
from app.web.api import dry_run_pool
from scripts.drill.tenants import recipe as hostile_recipe
from tests.api.clients import (
    Org,
    Visitor,
    own_secret,
    own_source,
    problem,
    running,
    wares,
)
from tests.clock import SettableClock
from tests.configs import config_for
from tests.fetch.hostile import Visit, serving
from tests.recipes.shop import Shop, open_shop
from tests.wait import until

TRY = "/collection/sources/dry-run"
SECRET = "s3cr3t-of/the+acme"  # noqa: S105 - of nobody
BEARER = '[auth]\ntype = "bearer"\ntoken = "secret:TOKEN"\n'
HEADER = '[auth]\ntype = "header"\nname = "X-Shop"\nvalue = "secret:TOKEN"\n'
QUERY = '[auth]\ntype = "query"\nname = "appid"\nvalue = "secret:TOKEN"\n'
BASIC = '[auth]\ntype = "basic"\nusername = "ada"\npassword = "secret:TOKEN"\n'
PAGED = '[paginate]\ntype = "page"\nmax_pages = 9\n'
TABLES = ("items", "runs", "run_sources", "raw_pages", "page_validators", "source_cursors")


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    async with open_shop(Shop()) as opened:
        yield opened


@pytest.fixture
async def near(
    dsn: str, redis: ArqRedis, redis_url: str, clock: SettableClock, org: Org
) -> AsyncGenerator[Visitor]:
    """The organisation's admin, at a web that may visit loopback."""
    del redis
    config = config_for(dsn, redis_url, guard_allow=("127.0.0.1",))
    async with running(config, clock) as client:
        yield Visitor(client, org.secrets[Scope.ADMIN])


async def tried(who: Visitor, text: str) -> dict[str, Any]:
    answer = await who("POST", TRY, json={"recipe": text}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_page_is_shown_with_its_rows_and_what_is_empty_and_nothing_is_stored(
    near: Visitor, shop: Shop, pool: Pool
) -> None:
    shop.wares[1]["name"] = None
    url = f"{shop.base}/wares"

    result = await tried(near, wares(url=url, more=PAGED))

    assert (result["source"], result["url"], result["status"]) == (
        "recipe:wares",
        url + "?page=1",
        200,
    )
    assert (result["found"], result["refused"], result["more"], result["failure"]) == (
        3,
        0,
        True,
        None,
    )
    assert result["rows"][0] == {"key": "1", "data": {"id": "1", "title": "ware 1"}}
    assert result["fields"] == [
        {"name": "id", "type": "string", "empty": 0, "example": "1"},
        {"name": "title", "type": "string", "empty": 1, "example": "ware 1"},
    ]
    assert shop.asked == ["/wares?page=1"]
    assert [await pool.fetchval(f"SELECT count(*) FROM {t}") for t in TABLES] == [0] * len(TABLES)  # noqa: S608 - names of our own


async def test_a_kept_source_is_tried_by_whoever_may_run_it(
    near: Visitor, shop: Shop, org: Org
) -> None:
    await own_secret(near, value=SECRET)
    await own_source(near, url=f"{shop.base}/wares", more=BEARER)
    operator = replace(near, secret=org.secrets[Scope.OPERATE])

    answer = await operator("POST", "/collection/sources/wares/dry-run", timeout=60)

    assert answer.json()["found"] == 3
    assert f"authorization: bearer {SECRET}" in shop.heads[-1].lower()


async def test_only_an_admin_decides_where_secrets_are_sent(
    near: Visitor, shop: Shop, org: Org
) -> None:
    await own_secret(near, value=SECRET)
    operator = replace(near, secret=org.secrets[Scope.OPERATE])
    url = f"{shop.base}/wares"

    refused = await operator("POST", TRY, json={"recipe": wares(url=url, more=BEARER)})
    plain = await tried(operator, wares(url=url))

    assert "admin" in problem(refused, 403)["detail"]
    assert plain["found"] == 3
    assert len(shop.asked) == 1


@pytest.mark.parametrize("auth", [BEARER, HEADER, QUERY, BASIC])
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "500 Internal Server Error"])
async def test_a_secret_goes_to_the_site_and_comes_back_to_nobody(
    near: Visitor, shop: Shop, auth: str, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await own_secret(near, value=SECRET)
    basic = "YWRhOnMzY3IzdC1vZi90aGUrYWNtZQ=="
    said = [{"id": 1, "name": f"{SECRET} {basic}"}, {"id": SECRET}, {"name": SECRET}]
    body = json.dumps({"items": said}).encode()
    shop.paths["/wares"] = (status, body, {})

    answer = await near(
        "POST", TRY, json={"recipe": wares(url=f"{shop.base}/wares", more=auth)}, timeout=60
    )

    assert (answer.json()["failure"] is None) is (status == "200 OK")
    out = capsys.readouterr()
    for form in (SECRET, "s3cr3t-of%2Fthe%2Bacme", *([basic] if auth == BASIC else [])):
        assert form not in answer.text + out.out + out.err


async def test_a_secret_that_is_not_set_is_named_with_its_line(near: Visitor, shop: Shop) -> None:
    text = wares(url=f"{shop.base}/wares", more=BEARER)

    answer = await near("POST", TRY, json={"recipe": text})

    (fault,) = problem(answer, 422)["errors"]
    assert (fault["line"], fault["key"]) == (16, "auth.token")
    assert fault["message"] == "secret:TOKEN is not set"
    assert fault["mend"] == "set it with PUT /collection/secrets/TOKEN"
    assert not shop.asked


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "0x7f.1", "2130706433", "127.1", "0", "[::]"),
        *("[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "192.168.0.1"),
        *("[64:ff9b::7f00:1]", "[fd00::1]", "100.64.0.1"),
    ],
)
async def test_no_private_address_is_reached(visitor: Visitor, shop: Shop, host: str) -> None:
    port = shop.base.rpartition(":")[2]

    result = await tried(visitor, wares(url=f"http://{host}:{port}/wares"))

    assert result["failure"]["kind"] == "unsafe"
    assert (result["found"], result["rows"], shop.asked) == (0, [], [])


async def test_no_redirect_and_no_token_url_leads_into_a_private_network(
    near: Visitor, shop: Shop
) -> None:
    await own_secret(near, value=SECRET)
    shop.paths["/moved"] = ("302 Found", b"", {"location": "http://10.0.0.1/wares"})
    oauth = (
        '[auth]\ntype = "oauth2"\ntoken_url = "http://169.254.169.254/token"\n'
        'client_id = "me"\nclient_secret = "secret:TOKEN"\n'
    )

    moved = await tried(near, wares(url=f"{shop.base}/moved"))
    signed = await tried(near, wares(url=f"{shop.base}/wares", more=oauth))

    assert (moved["failure"]["kind"], signed["failure"]["kind"]) == ("unsafe", "unsafe")
    assert shop.asked == ["/moved"]


async def test_an_expression_without_an_end_costs_its_dry_run_and_the_web_goes_on(
    near: Visitor, shop: Shop
) -> None:
    shop.paths["/wares"] = (
        "200 OK",
        json.dumps({"items": [{"id": 1, "name": "a" * 60 + "!"}]}).encode(),
        {},
    )
    text = wares(url=f"{shop.base}/wares").replace(
        'title = "name"', "title = { path = \"name\", match = '^(a+)+$' }"
    )
    under_way = asyncio.create_task(tried(near, text))
    longest = 0.0
    loop = asyncio.get_running_loop()
    while not under_way.done():
        began = loop.time()
        assert (await near("GET", "/collection/sources")).status_code == 200
        longest = max(longest, loop.time() - began)
        await asyncio.sleep(0.05)

    result = await under_way

    assert result["failure"]["kind"] == "expression"
    assert longest < 2


async def test_one_organisation_has_one_dry_run_at_a_time_and_ten_in_a_minute(
    near: Visitor, shop: Shop
) -> None:
    text = wares(url=f"{shop.base}/wares")

    both = await asyncio.gather(
        *(near("POST", TRY, json={"recipe": text}, timeout=60) for _ in range(2))
    )
    more = [
        await near("POST", TRY, json={"recipe": text}) for _ in range(dry_run_pool.MAX_PER_MINUTE)
    ]

    assert sorted(one.status_code for one in both) == [200, 429]
    assert [one.status_code for one in more] == [200] * (dry_run_pool.MAX_PER_MINUTE - 1) + [429]
    assert 0 < int(more[-1].headers["retry-after"]) <= 60


async def test_a_site_that_never_answers_is_given_up_in_time(
    redis: ArqRedis, redis_url: str, dsn: str
) -> None:
    config = config_for(dsn, redis_url, guard_allow=("127.0.0.1",))

    async with (
        serving(Visit.hang) as silent,
        dry_run_pool.open_dry_runner(config, redis, redis_url) as tools,
    ):
        source = RecipeSource(load(wares(url=f"{silent}/wares")), owner="acme")
        tools.seconds = 0.5
        seen = await tools.run(source, FetcherOptions(source.limits))

    assert seen["failure"]["kind"] == "timeout"
    assert "0.5 s" in seen["failure"]["message"]


async def test_a_page_that_leads_nowhere_it_may_is_shown_with_the_reason(
    near: Visitor, shop: Shop
) -> None:
    body = {"items": [{"id": 1}], "next": "https://elsewhere.test/steal"}
    shop.paths["/wares"] = ("200 OK", json.dumps(body).encode(), {})
    paging = '[paginate]\ntype = "next"\npath = "next"\nmax_pages = 3\n'

    result = await tried(near, wares(url=f"{shop.base}/wares", more=paging))

    assert (result["found"], result["failure"]["kind"]) == (1, "unsafe")


async def test_of_a_large_page_the_first_rows_are_shown_and_all_are_counted(
    near: Visitor, shop: Shop
) -> None:
    rows = [{"id": n, "name": "x" * 5_000} for n in range(300)]
    shop.paths["/wares"] = ("200 OK", json.dumps({"items": rows}).encode(), {})

    result = await tried(near, wares(url=f"{shop.base}/wares"))

    assert (result["found"], len(result["rows"])) == (300, 20)
    assert len(result["rows"][0]["data"]["title"]) == 1_001


async def test_a_second_web_shares_the_count(
    near: Visitor, org: Org, dsn: str, redis_url: str, clock: SettableClock
) -> None:
    text = wares()
    for _ in range(dry_run_pool.MAX_PER_MINUTE):
        await tried(near, text)

    async with running(config_for(dsn, redis_url), clock) as client:
        second: httpx.Response = await Visitor(client, org.secrets[Scope.ADMIN])(
            "POST", TRY, json={"recipe": text}
        )

    problem(second, 429)


@pytest.fixture
async def hostile() -> AsyncGenerator[str]:
    """A site in a process of its own that does every harm it can."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.drill.hostile_sites", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip()
    process.kill()
    await process.communicate()


@pytest.mark.parametrize("name", ["interim", "drip", "bomb", "large", "evil"])
async def test_a_dry_run_of_a_hostile_site_does_not_hold_up_the_web(
    near: Visitor, hostile: str, name: str
) -> None:
    text = hostile_recipe(hostile, name)
    under_way = asyncio.create_task(near("POST", TRY, json={"recipe": text}, timeout=60))
    longest, loop = 0.0, asyncio.get_running_loop()
    while not under_way.done():
        began = loop.time()
        assert (await near.client.get("/livez")).status_code == 200
        longest = max(longest, loop.time() - began)
        await asyncio.sleep(0.02)

    answer = await under_way

    assert answer.status_code == 200, answer.text
    failure = answer.json()["failure"]
    assert (failure is None) == (name in {"large", "evil"}), failure
    assert longest < 1


async def test_dry_runs_go_on_after_their_process_was_killed(near: Visitor, shop: Shop) -> None:
    text = wares(url=f"{shop.base}/wares")
    await tried(near, text)
    (process,) = _dry_run_processes()
    os.kill(process, signal.SIGKILL)

    async def again() -> bool:
        return (await near("POST", TRY, json={"recipe": text}, timeout=60)).status_code == 200

    assert await until(again, 20, "a dry run by another process")


async def test_a_dry_run_whose_process_is_killed_says_so(near: Visitor) -> None:
    async with serving(Visit.hang) as silent:
        text = wares(url=f"{silent}/wares")
        under_way = asyncio.create_task(near("POST", TRY, json={"recipe": text}, timeout=60))
        (process,) = await until(_dry_run_processes, 20, "the process")
        os.kill(process, signal.SIGKILL)

        problem(await under_way, 503)


def _dry_run_processes() -> list[int]:
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    return [int(one) for one in children if b"dry_run_process" in _command(one)]


def _command(pid: str) -> bytes:
    process = Path(f"/proc/{pid}")
    return (process / "cmdline").read_bytes() + (process / "comm").read_bytes()
