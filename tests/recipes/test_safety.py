"""What a recipe can never do: reach a private network, or show a secret."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from arq.connections import ArqRedis

from app.context import WorkerContext
from app.core import config as settings
from app.core.errors import BadConfig
from app.sources.recipes.load import disallowed_secrets, load
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.recipes.shop import Shop, ask, items, write

SECRET = "s3cr3t-of/the+house"  # noqa: S105 - of nobody
WARES = """
name = "wares"
kind = "json"
url = "{url}"
[limits]
rate = 50
[extract]
records = "items"
[extract.fields]
id = "id"
[store]
key = "id"
"""
BEARER = '[auth]\ntype = "bearer"\ntoken = "env:SHOP_KEY"\n'
HEADER = '[auth]\ntype = "header"\nname = "X-Shop"\nvalue = "env:SHOP_KEY"\n'
QUERY = '[auth]\ntype = "query"\nname = "appid"\nvalue = "env:SHOP_KEY"\n'
BASIC = '[auth]\ntype = "basic"\nusername = "ada"\npassword = "env:SHOP_KEY"\n'


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", SECRET)


async def error_of(context: WorkerContext, name: str = "wares") -> dict[str, Any]:
    return await worker_harness.run_row(context.pool, await ask(context, name))


async def everything_kept(context: WorkerContext) -> str:
    """All that the database holds of runs and pages, as text."""
    result: list[Any] = []
    for table in ("runs", "run_sources", "run_events", "raw_pages", "rejected_records", "items"):
        result += [dict(row) for row in await context.pool.fetch(f"SELECT * FROM {table}")]  # noqa: S608 - our own tables
    return repr(result)


@pytest.mark.parametrize(
    "case",
    [
        (BEARER, f"authorization: bearer {SECRET}"),
        (HEADER, f"x-shop: {SECRET}"),
        (QUERY, "appid=s3cr3t-of"),
        (BASIC, "authorization: basic ywrhonmzy3izdc1vzi90agurag91c2u="),
    ],
)
async def test_a_secret_goes_to_the_site_and_into_nothing_that_is_kept(
    kitchen: WorkerContext,
    shop: Shop,
    folder: Path,
    case: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    auth, shown = case
    write(folder, "wares", WARES.format(url=shop.base + "/wares?a=1") + auth)

    run = await error_of(kitchen)

    assert run["status"] == "success"
    assert shown in shop.heads[-1].lower()
    out = capsys.readouterr()
    kept = await everything_kept(kitchen) + out.out + out.err
    for form in (SECRET, "s3cr3t-of%2Fthe%2Bhouse", "YWRhOnMzY3IzdC1vZi90aGUraG91c2U="):
        assert form not in kept


@pytest.mark.parametrize("auth", [BEARER, HEADER, QUERY, BASIC])
@pytest.mark.parametrize("status", ["401 Unauthorized", "500 Internal Server Error", "400 Bad"])
async def test_a_site_that_repeats_a_secret_in_its_refusal_tells_nobody_of_it(
    kitchen: WorkerContext, shop: Shop, folder: Path, auth: str, status: str
) -> None:
    extra = "[retry]\nattempts = 1\n"
    write(folder, "wares", WARES.format(url=shop.base + "/closed") + auth + extra)
    shop.paths["/closed"] = (status, f"your key {SECRET} is none".encode(), {})

    run = await error_of(kitchen)

    assert run["status"] == "failure"
    assert SECRET not in await everything_kept(kitchen)
    if status.startswith("401"):
        assert "env:SHOP_KEY is not accepted" in run["error_message"]


async def test_a_site_that_repeats_a_key_in_its_link_to_the_next_page_is_followed_and_not_quoted(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    said = f"<{shop.base}/two?appid={quote(SECRET, safe='')}&page=2>; rel=next"
    shop.paths["/one"] = ("200 OK", b'{"items": [{"id": 1}]}', {"link": said})
    shop.paths["/two"] = ("200 OK", b'{"items": [{"id": 2}]}', {})
    paging = '[paginate]\ntype = "link_header"\nmax_pages = 3\n'
    write(folder, "wares", WARES.format(url=shop.base + "/one") + QUERY + paging)

    run = await error_of(kitchen)

    assert run["status"] == "success"
    (second,) = [path for path in shop.asked if path.startswith("/two")]
    assert parse_qs(urlsplit(second).query) == {"page": ["2"], "appid": [SECRET]}
    for form in (SECRET, quote(SECRET, safe="")):
        assert form not in await everything_kept(kitchen)


async def test_a_secret_does_not_follow_a_redirect_to_another_site(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    elsewhere = shop.base.replace("127.0.0.1", "localhost")
    shop.paths["/moved"] = ("302 Found", b"", {"location": f"{elsewhere}/wares"})
    write(folder, "wares", WARES.format(url=shop.base + "/moved") + HEADER)

    await error_of(kitchen)

    assert [SECRET in head for head in shop.heads if "/moved" in head.splitlines()[0]] == [True]
    assert not any(SECRET in head for head in shop.heads if "/wares" in head.splitlines()[0])


async def test_a_next_page_at_another_site_is_refused(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    body = {"items": [{"id": 1}], "next": "https://elsewhere.test/steal"}
    shop.paths["/wares"] = ("200 OK", json.dumps(body).encode(), {})
    paging = '[paginate]\ntype = "next"\npath = "next"\nmax_pages = 3\n'
    write(folder, "wares", WARES.format(url=shop.base + "/wares") + BEARER + paging)

    run = await error_of(kitchen)

    assert run["error_type"] == "unsafe"
    assert "elsewhere.test" in run["error_message"]


async def test_a_secret_that_is_not_set_is_named(
    kitchen: WorkerContext, shop: Shop, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_KEY")
    write(folder, "wares", WARES.format(url=shop.base + "/wares") + BEARER)

    run = await error_of(kitchen)

    assert run["status"] == "failure"
    assert "wares.toml: line 1: auth.token: SHOP_KEY is not set" in run["error_message"]
    assert not shop.asked


def test_an_organisations_recipe_can_never_name_the_environment() -> None:
    text = WARES.format(url="https://site.test/wares") + BEARER

    faults = disallowed_secrets(load(text), "secret", text)

    assert [(fault.key, fault.fix) for fault in faults] == [("auth.token", "write secret:NAME")]
    assert "SHOP_KEY" in faults[0].problem


@pytest.fixture
async def strict(dsn: str, redis: ArqRedis, redis_url: str, standin: Standin, folder: Path) -> Any:
    """A worker context that allows no private address at all."""
    config = config_for(dsn, redis_url, standin, sources_dir=folder)
    async with worker_harness.opened(config, redis) as context:
        yield context


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "169.254.169.254"])
async def test_no_recipe_reaches_a_private_address(
    strict: WorkerContext, shop: Shop, folder: Path, host: str
) -> None:
    port = shop.base.rpartition(":")[2]
    write(folder, "wares", WARES.format(url=f"http://{host}:{port}/wares"))

    run = await error_of(strict)

    assert (run["status"], run["error_type"]) == ("failure", "unsafe")
    assert not shop.asked


async def test_no_redirect_and_no_next_page_leads_into_a_private_network(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    shop.paths["/moved"] = ("302 Found", b"", {"location": "http://10.0.0.1/wares"})
    write(folder, "wares", WARES.format(url=shop.base + "/moved"))

    run = await error_of(kitchen)

    assert run["error_type"] == "unsafe"
    assert not await items(kitchen)


def test_a_guard_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_ALLOW", "10.0.0.0/99")

    with pytest.raises(BadConfig, match=r"GUARD_ALLOW = .*'10\.0\.0\.0/99' does not appear to be"):
        settings.load()


async def test_robots_are_asked_for_pages_made_for_people(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    shop.paths["/robots.txt"] = ("200 OK", b"User-agent: *\nDisallow: /wares", {})
    text = WARES.format(url=shop.base + "/wares").replace('"json"', '"html"')
    write(folder, "wares", text.replace('"items"', '"li"'))

    run = await error_of(kitchen)

    assert (run["error_type"], shop.asked) == ("blocked", ["/robots.txt"])
