"""Presets over HTTP: a collection is chosen from them."""

from typing import Any

import httpx
import pytest

from app.core.enums import Scope
from app.store.db import Pool
from tests.api.clients import ODDS, Org, Visitor, fields, preset, problem

PRESETS = "/collection/presets"
SPORTYBET = [{"source": "sportybet"}]


async def test_the_built_in_presets_are_there_to_choose(visitor: Visitor) -> None:
    answer = await visitor("GET", PRESETS)

    found = answer.json()["presets"]
    assert [(one["name"], one["built_in"]) for one in found] == [("news", True), ("odds", True)]
    assert found[1]["sources"][0] == {"source": "sportybet", "params": {}}


async def test_a_preset_is_made_read_changed_and_deleted(visitor: Visitor) -> None:
    made = await visitor("POST", PRESETS, json={"name": "mine", "sources": SPORTYBET})
    where = made.headers["location"]
    read = await visitor("GET", where)
    changed = await visitor("PATCH", where, json={"name": "ours"}, headers={"if-match": '"1"'})
    late = await visitor("PATCH", where, json={"name": "yours"}, headers={"if-match": '"1"'})
    deleted = await visitor("DELETE", where)

    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert read.json() == made.json()
    assert (changed.json()["name"], changed.headers["etag"]) == ("ours", '"2"')
    assert changed.json()["sources"] == made.json()["sources"]
    problem(late, 412)
    assert deleted.status_code == 204
    problem(await visitor("GET", where), 404)


async def test_names_are_unique_within_an_organisation(
    visitor: Visitor, api: httpx.AsyncClient, other: Org
) -> None:
    await preset(visitor, "mine")
    second = await preset(visitor, "second")

    again = await visitor("POST", PRESETS, json={"name": "mine", "sources": SPORTYBET})
    renamed = await visitor("PATCH", f"{PRESETS}/{second}", json={"name": "mine"})

    problem(again, 409)
    problem(renamed, 409)
    await preset(Visitor(api, other.secrets[Scope.ADMIN]), "mine")


async def test_a_preset_that_is_chosen_cannot_be_deleted_until_the_schedule_is_retired(
    visitor: Visitor,
) -> None:
    mine = await preset(visitor)
    await visitor.patch(preset_id=mine)

    refused = await visitor("DELETE", f"{PRESETS}/{mine}")
    await visitor("DELETE", "/collection/schedule")
    deleted = await visitor("DELETE", f"{PRESETS}/{mine}")

    assert "uses preset" in problem(refused, 409)["detail"]
    assert deleted.status_code == 204


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_built_in_preset_cannot_be_changed(visitor: Visitor, method: str) -> None:
    asked: dict[str, Any] = {"json": {"name": "mine"}} if method == "PATCH" else {}

    answer = await visitor(method, f"{PRESETS}/{ODDS}", **asked)

    assert "built in" in problem(answer, 409)["detail"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"sources": SPORTYBET}, "name"),
        ({"name": "mine"}, "sources"),
        ({"name": "", "sources": SPORTYBET}, "name"),
        ({"name": "a\nb", "sources": SPORTYBET}, "name"),
        ({"name": "x" * 81, "sources": SPORTYBET}, "name"),
        ({"name": "mine", "sources": []}, "sources"),
        ({"name": "mine", "sources": SPORTYBET, "org_id": None}, "org_id"),
        ({"name": "mine", "sources": [{"source": "nowhere"}]}, "sources.0.source"),
        ({"name": "mine", "sources": [{"sauce": 1, "source": "bet9ja"}]}, "sources.0.sauce"),
        ({"name": "mine", "sources": [{"source": "bet9ja", "params": None}]}, "sources.0.params"),
        ({"name": "mine", "sources": [*SPORTYBET, *SPORTYBET]}, "sources.1.source"),
        (
            {"name": "mine", "sources": [{"source": "bet9ja", "params": {"x": 1}}]},
            "sources.0.params.x",
        ),
    ],
)
async def test_a_preset_that_could_not_run_is_422_with_the_field_named(
    visitor: Visitor, wanted: dict[str, Any], field: str
) -> None:
    assert fields(await visitor("POST", PRESETS, json=wanted)) == [field]
    assert len((await visitor("GET", PRESETS)).json()["presets"]) == 2


async def test_the_sources_of_a_preset_are_limited_and_the_limit_is_named(
    visitor: Visitor, pool: Pool
) -> None:
    await pool.execute("UPDATE organizations SET limits = '{\"max_sources\": 1}'")
    two = [*SPORTYBET, {"source": "bet9ja"}]

    made = await visitor("POST", PRESETS, json={"name": "mine", "sources": two})
    mine = await preset(visitor)
    grown = await visitor("PATCH", f"{PRESETS}/{mine}", json={"sources": two})

    for answer in (made, grown):
        assert fields(answer) == ["sources"]
        assert "max_sources = 1" in answer.json()["detail"]
