"""An organisation's own recipes in its collection: from the API to items, and nothing leaks."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.core.enums import Scope
from app.orgs import secret_box, secrets
from app.store.orgs import org_sources
from app.store.orgs.org_sources import OrgRecipe
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.api.clients import Visitor, found, own_secret, own_source, running, wares
from tests.clock import SettableClock
from tests.collections import harness
from tests.collections.harness import Client
from tests.configs import config_for
from tests.fetch.hostile import Visit, serving
from tests.recipes.shop import Shop, open_shop
from workers.collection import collection
from workers.execute import execute

SECRET = "s3cr3t-of/the+acme"  # noqa: S105 - of nobody
BEARER = '[auth]\ntype = "bearer"\ntoken = "secret:TOKEN"\n'
QUERY = '[auth]\ntype = "query"\nname = "appid"\nvalue = "secret:TOKEN"\n'
ENV = '[auth]\ntype = "bearer"\ntoken = "env:SHOP_KEY"\n'
OWN = {"source": "recipe:wares"}
PAGED = '[paginate]\ntype = "page"\nmax_pages = 10\n'


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    async with open_shop(Shop()) as opened:
        yield opened


def settings(dsn: str, redis_url: str, web: Standin, **changes: Any) -> Any:
    allowed = {"guard_allow": ("127.0.0.1",)}
    return config_for(dsn, redis_url, web, **(allowed | changes))


@pytest.fixture
async def near(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    """A worker context that may request loopback, and has a key for secrets."""
    async with worker_harness.opened(settings(dsn, redis_url, standin), redis) as opened:
        yield opened


async def keep(client: Client, text: str, name: str = "wares") -> None:
    """Keep a recipe for the organisation, as its API does."""
    now = client.context.clock()
    async with client.context.pool.acquire() as connection:
        await org_sources.drop(connection, client.org_id, name, f"recipe:{name}")
        await org_sources.add(connection, client.org_id, OrgRecipe(name, text, 1, now, now))


async def confide(client: Client, value: str = SECRET, name: str = "TOKEN") -> None:
    """Keep a secret of the organisation."""
    context = client.context
    secret = (name, SecretStr(value))
    await secrets.put(
        context.pool, secret_box.from_config(context.config), client.org_id, secret, context.clock()
    )


async def everything_kept(context: WorkerContext) -> str:
    """All that the database holds of runs and pages, as text."""
    result: list[Any] = []
    for table in ("runs", "run_sources", "run_events", "raw_pages", "rejected_records", "items"):
        result += [dict(row) for row in await context.pool.fetch(f"SELECT * FROM {table}")]  # noqa: S608 - our own tables
    return repr(result)


async def test_from_a_secret_and_a_recipe_over_http_to_items(
    near: WorkerContext, shop: Shop, clock: SettableClock, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = await found(near.pool, clock, "Acme")
    async with running(near.config, clock) as client:
        visitor = Visitor(client, acme.secrets[Scope.ADMIN])
        await own_secret(visitor, value=SECRET)
        await own_source(visitor, url=f"{shop.base}/wares", more=BEARER + PAGED)
        wanted = {"name": "mine", "sources": [OWN, {"source": "bet9ja"}]}
        preset = (await visitor("POST", "/collection/presets", json=wanted)).json()
        await visitor.patch(preset_id=preset["id"])
        asked = await visitor("POST", "/collection/run")
        run_id = asked.json()["run_id"]

        await execute(worker_harness.ctx_of(near), collection, run_id)

        run = (await visitor("GET", asked.headers["location"])).json()
        items = (await visitor("GET", "/collection/items?source=recipe:wares")).json()["items"]
    assert (run["status"], run["error_message"]) == ("success", None)
    assert {s["source"]: s["records"] > 0 for s in run["sources"]} == {
        "recipe:wares": True,
        "bet9ja": True,
    }
    assert sorted(item["key"] for item in items) == list("1234567")
    assert items[0]["data"].keys() == {"id", "title"}
    pages = [head for head in shop.heads if "GET /wares" in head]
    assert pages
    assert all(f"authorization: Bearer {SECRET}" in head for head in pages)
    out = capsys.readouterr()
    assert SECRET not in await everything_kept(near) + out.out + out.err + json.dumps([run, items])


async def test_two_organisations_recipes_of_one_name_share_nothing(
    near: WorkerContext, shop: Shop
) -> None:
    acme, bolt = await harness.client(near, "Acme"), await harness.client(near, "Bolt")
    for one in (acme, bolt):
        await one.choose(OWN)
        await keep(one, wares(url=f"{shop.base}/wares", more=BEARER))
    await confide(acme, "key of acme")

    mine, theirs = await acme.run(), await bolt.run()

    assert (mine["status"], theirs["status"]) == ("success", "failure")
    assert "secret:TOKEN is not set; set it under /collection/secrets" in theirs["error_message"]
    assert len(await acme.items()) == 3
    assert await bolt.items() == {}
    assert all("Bearer key of acme" in head for head in shop.heads)


async def test_a_page_is_not_unchanged_for_other_credentials(near: WorkerContext) -> None:
    async def serve(visit: Visit) -> None:  # each account has its own wares, none changed lately
        if "if-modified-since" in visit.head.lower():
            await visit.say(b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n")
            return
        of = "acme" if "Bearer key of acme" in visit.head else "bolt"
        body = json.dumps({"items": [{"id": of, "name": of}]}).encode()
        await visit.answer(body=body, last_modified="Sat, 05 Sep 2026 12:00:00 GMT")

    acme = await harness.client(near, "Acme")
    await acme.choose(OWN)
    async with serving(serve) as base:
        await keep(acme, wares(url=f"{base}/wares", more=BEARER))
        runs = list[dict[str, Any]]()
        for key in ("key of acme", "key of acme", "key of bolt"):
            await confide(acme, key)
            runs.append(await acme.run())

    assert [run["status"] for run in runs] == ["success"] * 3
    assert [run["sources"]["recipe:wares"]["unchanged"] for run in runs] == [0, 1, 0]
    assert ("recipe:wares", "bolt") in await acme.items()


async def test_the_environment_cannot_be_named_whatever_the_database_says(
    near: WorkerContext, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", SECRET)
    acme = await harness.client(near)
    await acme.choose(OWN, {"source": "bet9ja"})
    await keep(acme, wares(url=f"{shop.base}/wares", more=ENV))
    await confide(acme, name="SHOP_KEY")

    run = await acme.run()

    assert run["status"] == "partial_failure"
    assert "operator's environment (write secret:NAME)" in run["error_message"]
    assert run["sources"]["bet9ja"]["status"] == "success"
    assert not shop.asked


@pytest.mark.parametrize("auth", [BEARER, QUERY])
@pytest.mark.parametrize("status", ["401 Unauthorized", "500 Internal Server Error"])
async def test_a_site_that_repeats_a_secret_tells_nobody_of_it(
    near: WorkerContext, shop: Shop, auth: str, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = await harness.client(near)
    await acme.choose(OWN)
    await confide(acme)
    await keep(acme, wares(url=f"{shop.base}/wares", more=auth + "[retry]\nattempts = 1\n"))
    shop.paths["/wares"] = (status, f"your key {SECRET} is none".encode(), {})

    run = await acme.run()

    assert run["status"] == "failure"
    out = capsys.readouterr()
    kept = await everything_kept(near) + out.out + out.err
    assert SECRET not in kept
    assert "s3cr3t-of%2Fthe%2Bacme" not in kept


async def test_without_a_key_the_source_fails_by_itself_and_names_the_setting(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin, shop: Shop
) -> None:
    config = settings(dsn, redis_url, standin, secrets_key=None)
    async with worker_harness.opened(config, redis) as context:
        acme = await harness.client(context)
        await acme.choose(OWN, {"source": "bet9ja"})
        await keep(acme, wares(url=f"{shop.base}/wares", more=BEARER))

        run = await acme.run()

    assert (run["status"], run["error_type"]) == ("partial_failure", "auth")
    assert "SECRETS_KEY is not set" in run["error_message"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "169.254.169.254"])
async def test_no_recipe_reaches_a_private_address(
    context: WorkerContext, shop: Shop, host: str
) -> None:
    acme = await harness.client(context)
    port = shop.base.rpartition(":")[2]
    await acme.choose(OWN)
    await keep(acme, wares(url=f"http://{host}:{port}/wares"))

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("failure", "unsafe")
    assert not shop.asked


async def test_no_redirect_leads_into_a_private_network(near: WorkerContext, shop: Shop) -> None:
    acme = await harness.client(near)
    shop.paths["/moved"] = ("302 Found", b"", {"location": "http://10.0.0.1/wares"})
    await acme.choose(OWN)
    await keep(acme, wares(url=f"{shop.base}/moved"))

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("failure", "unsafe")


@pytest.mark.parametrize(
    ("kind", "costly"),
    [
        ("json", "title = { path = \"name\", match = '^(a+)+$' }"),
        ("html", 'title = "(.)[count(//*[count(//*[count(//*) > 1]) > 1]) > 0]"'),
    ],
)
async def test_an_expression_without_an_end_costs_its_partition_and_no_more(
    near: WorkerContext, shop: Shop, kind: str, costly: str
) -> None:
    acme = await harness.client(near)
    parts = '[request]\neach = ["bad", "good"]\n'
    text = wares(url=f"{shop.base}/{{each}}", more=parts).replace('title = "name"', costly)
    bodies: dict[str, tuple[bytes, bytes]] = {
        "json": (
            json.dumps({"items": [{"id": 1, "name": "a" * 60 + "!"}]}).encode(),
            json.dumps({"items": [{"id": 2, "name": "aaa"}]}).encode(),
        ),
        "html": (
            b"<ul><li><b>1</b>" + b"<i>x</i>" * 900 + b"</li></ul>",
            b"<ul><li><b>2</b></li></ul>",
        ),
    }
    if kind == "html":
        text = text.replace('"json"', '"html"').replace('"items"', '"li"').replace('"id"', '"b"', 1)
    for name, body in zip(("bad", "good"), bodies[kind], strict=True):
        shop.paths[f"/{name}"] = ("200 OK", body, {"content_type": f"text/{kind}"})
    if kind == "json":
        shop.paths = {p: (s, b, {}) for p, (s, b, _) in shop.paths.items()}
    await acme.choose(OWN, {"source": "bet9ja"})
    await keep(acme, text)

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("partial_failure", "expression")
    assert run["sources"]["bet9ja"]["status"] == "success"
    assert [key for source, key in await acme.items() if source == "recipe:wares"] == ["2"]


async def test_the_budget_holds_for_own_recipes(near: WorkerContext, shop: Shop) -> None:
    acme = await harness.client(near)
    await acme.limit(max_pages=2)
    await acme.choose(OWN)
    await keep(acme, wares(url=f"{shop.base}/wares", more=PAGED))

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("failure", "over_limit")
    assert "max_pages = 2 (setting ORG_MAX_PAGES" in run["error_message"]
    assert shop.asked == ["/wares?page=1", "/wares?page=2"]
    assert len(await acme.items()) == 6


async def test_a_recipe_that_is_gone_when_its_run_goes_on_says_so(
    near: WorkerContext, shop: Shop
) -> None:
    acme = await harness.client(near)
    await acme.choose(OWN, {"source": "bet9ja"})
    await keep(acme, wares(url=f"{shop.base}/wares"))
    run_id = await acme.queue()
    settled = {"preset": "own", "sources": [OWN, {"source": "bet9ja"}]}
    await near.pool.execute("UPDATE runs SET params = $2 WHERE execution_id = $1", run_id, settled)
    async with near.pool.acquire() as connection:
        await org_sources.drop(connection, acme.org_id, "wares", "recipe:wares")

    run = await acme.run(run_id)

    assert run["status"] == "partial_failure"
    assert "the recipe 'wares' no longer exists" in run["error_message"]


async def test_a_recipe_goes_on_from_where_it_was_read_to(near: WorkerContext, shop: Shop) -> None:
    acme = await harness.client(near)
    since = '[incremental]\nparam = "since"\nfield = "id"\nformat = "plain"\n'
    await acme.choose(OWN)
    await keep(acme, wares(url=f"{shop.base}/wares", more=since))

    first, second = await acme.run(), await acme.run()

    assert (first["status"], second["status"]) == ("success", "success")
    assert shop.asked == ["/wares", "/wares?since=3"]


async def test_a_source_named_as_a_built_in_one_stays_apart_from_it(
    near: WorkerContext, shop: Shop
) -> None:
    acme = await harness.client(near)
    await acme.choose({"source": "recipe:bet9ja"}, {"source": "bet9ja"})
    await keep(acme, wares("bet9ja", url=f"{shop.base}/wares"), "bet9ja")

    run = await acme.run()

    assert run["status"] == "success"
    assert run["sources"].keys() == {"bet9ja", "recipe:bet9ja"}
    assert run["sources"]["recipe:bet9ja"]["records"] == 3
