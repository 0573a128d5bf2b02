"""An organisation's own sources over HTTP: kept as written, judged line by line, its own alone."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from app.core.enums import Scope
from app.sources.recipes.load import MAX_RECIPE_LENGTH
from app.store.db import Pool
from app.web.api import dry_run_pool
from tests.api.clients import Org, Visitor, fields, own_source, problem, wares

SOURCES = "/collection/sources"
WARES = f"{SOURCES}/wares"
ENV = '[auth]\ntype = "bearer"\ntoken = "env:DATABASE_URL"\n'
IN_PRESET = {"name": "mine", "sources": [{"source": "recipe:wares"}]}


async def test_a_source_is_made_read_listed_changed_and_deleted(visitor: Visitor) -> None:
    made = await visitor("POST", SOURCES, json={"recipe": wares(), "name": "wares"})
    read = await visitor("GET", made.headers["location"])
    listed = await visitor("GET", SOURCES)
    other = {"recipe": wares(url="https://shop.test/wares")}
    changed = await visitor("PUT", WARES, json=other, headers={"if-match": '"1"'})
    late = await visitor("PUT", WARES, json={"recipe": wares()}, headers={"if-match": '"1"'})
    same = await visitor("PUT", WARES, json=other)
    deleted = await visitor("DELETE", WARES)

    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert read.json() == made.json()
    assert (read.json()["recipe"], read.json()["source"]) == (wares(), "recipe:wares")
    assert [one["name"] for one in listed.json()["sources"]] == ["wares"]
    assert (changed.json()["recipe"], changed.headers["etag"]) == (other["recipe"], '"2"')
    problem(late, 412)
    assert same.headers["etag"] == '"2"'
    assert deleted.status_code == 204
    problem(await visitor("GET", WARES), 404)


async def test_a_recipe_with_faults_is_refused_with_line_key_and_mend(visitor: Visitor) -> None:
    text = wares().replace('kind = "json"', 'kind = "jason"').replace("[store]", "[stroe]")

    answer = await visitor("POST", SOURCES, json={"recipe": text})

    result = problem(answer, 422)
    assert [(e["field"], e["line"], e["key"]) for e in result["errors"]] == [
        ("recipe", 2, "kind"),
        ("recipe", 12, "stroe"),
    ]
    assert all(e["message"] and e["mend"] for e in result["errors"])
    assert result["detail"].startswith("recipe: line 2: kind: ")
    assert (await visitor("GET", SOURCES)).json() == {"sources": []}


@pytest.mark.parametrize("way", ["POST", "PUT", "dry-run"])
async def test_the_operators_environment_can_never_be_named(visitor: Visitor, way: str) -> None:
    await own_source(visitor)
    path = {"POST": SOURCES, "PUT": WARES, "dry-run": f"{SOURCES}/dry-run"}[way]

    answer = await visitor(way if way == "PUT" else "POST", path, json={"recipe": wares() + ENV})

    (fault,) = problem(answer, 422)["errors"]
    assert (fault["line"], fault["key"], fault["mend"]) == (16, "auth.token", "write secret:NAME")


async def test_what_is_no_toml_or_too_long_is_a_fault_too(visitor: Visitor) -> None:
    for text in (
        "name = ",
        "#" * (MAX_RECIPE_LENGTH + 1),
        "a." * 500 + "a = 1",
        "[" * 9_000,
    ):
        (fault,) = problem(await visitor("POST", SOURCES, json={"recipe": text}), 422)["errors"]

        assert fault["field"] == "recipe"
        assert fault["line"] == 1


async def test_a_source_keeps_its_name(visitor: Visitor) -> None:
    await own_source(visitor)

    renamed = await visitor("PUT", WARES, json={"recipe": wares("others")})
    misnamed = await visitor("POST", SOURCES, json={"recipe": wares("others"), "name": "mine"})
    taken = await visitor("POST", SOURCES, json={"recipe": wares()})

    assert problem(renamed, 422)["errors"][0]["key"] == "name"
    assert fields(misnamed) == ["name"]
    problem(taken, 409)


async def test_a_preset_may_hold_own_sources_and_keeps_them_from_being_deleted(
    visitor: Visitor, api: httpx.AsyncClient, other: Org
) -> None:
    await own_source(visitor)
    made = await visitor("POST", "/collection/presets", json=IN_PRESET)
    theirs = await Visitor(api, other.secrets[Scope.ADMIN])(
        "POST", "/collection/presets", json=IN_PRESET
    )
    refused = await visitor("DELETE", WARES)
    await visitor("DELETE", made.headers["location"])
    deleted = await visitor("DELETE", WARES)

    assert made.status_code == 201
    assert fields(theirs) == ["sources.0.source"]
    assert "used by presets: mine" in problem(refused, 409)["detail"]
    assert deleted.status_code == 204


async def test_two_organisations_may_have_a_source_of_one_name(
    visitor: Visitor, other: Org
) -> None:
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])
    await own_source(visitor)

    problem(await stranger("GET", WARES), 404)
    problem(await stranger("PUT", WARES, json={"recipe": wares()}), 404)
    problem(await stranger("DELETE", WARES), 404)
    problem(await stranger("POST", f"{WARES}/dry-run"), 404)
    await own_source(stranger, url="https://others.test/")

    assert (await visitor("GET", WARES)).json()["recipe"] == wares()


async def test_how_many_there_may_be_is_limited_and_the_limit_is_named(
    visitor: Visitor, pool: Pool
) -> None:
    await pool.execute("UPDATE organizations SET limits = '{\"max_recipes\": 1}'")
    await own_source(visitor)

    answer = await visitor("POST", SOURCES, json={"recipe": wares("second")})

    assert "max_recipes = 1 (setting ORG_MAX_RECIPES" in problem(answer, 409)["detail"]


async def test_a_source_that_is_made_again_begins_from_the_start(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    await own_source(visitor)
    await pool.execute(
        "INSERT INTO source_cursors (org_id, source, partition, value, moved_at)"
        " VALUES ($1, 'recipe:wares', 'all', '7', now()),"
        " (NULL, 'recipe:wares', 'all', '8', now())",
        org.id,
    )

    await visitor("DELETE", WARES)

    assert [r["value"] for r in await pool.fetch("SELECT value FROM source_cursors")] == ["8"]


SLOW = "(?i)" + r"[\u0000-\uffff]" * 30
FIELDS = "".join(f"f{n} = {{ path = 'name', match = '{SLOW}{n}' }}\n" for n in range(40))  # 20 s


async def test_a_regular_expression_that_is_slow_to_compile_costs_no_other_request(
    visitor: Visitor, api: httpx.AsyncClient, other: Org
) -> None:
    neighbour = Visitor(api, other.secrets[Scope.ADMIN])
    text = wares().replace("[extract.fields]\n", f"[extract.fields]\n{FIELDS}")
    assert FIELDS in text
    under_way = asyncio.create_task(visitor("POST", SOURCES, json={"recipe": text}, timeout=60))
    longest, loop = 0.0, asyncio.get_running_loop()
    while not under_way.done():
        began = loop.time()
        assert (await neighbour("GET", SOURCES)).status_code == 200
        longest = max(longest, loop.time() - began)
        await asyncio.sleep(0.05)

    answer = await under_way

    assert answer.status_code == 422, answer.text
    assert "takes too long to check" in answer.text
    assert longest < 2


async def test_an_organisation_may_have_thirty_recipes_checked_in_a_minute(
    visitor: Visitor, api: httpx.AsyncClient, other: Org
) -> None:
    body = {"recipe": "no recipe"}

    answers = [
        await visitor("POST", SOURCES, json=body)
        for _ in range(dry_run_pool.MAX_LOADS_PER_MINUTE + 1)
    ]
    theirs = await Visitor(api, other.secrets[Scope.ADMIN])("POST", SOURCES, json=body)

    assert {answer.status_code for answer in answers[:-1]} == {422}
    assert answers[-1].status_code == 429
    assert theirs.status_code == 422
