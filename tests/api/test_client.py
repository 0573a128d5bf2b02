"""The generated client: built from the document, typed, and used against the running web."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

import httpx
import pytest

from app.core.enums import Scope
from app.store.db import Pool
from app.web.api.table import ENDPOINTS
from tests.api.clients import ODDS, Org, Visitor, had_item, operator_with
from tests.clock import NOON, SettableClock


@pytest.fixture
async def module(api: httpx.AsyncClient, tmp_path: Path) -> ModuleType:
    """The client as a user saves it: a file of its own."""
    answer = await api.get("/docs/rollcall_client.py")
    assert answer.headers["content-type"] == "text/x-python; charset=utf-8"
    file = tmp_path / "rollcall_client.py"
    file.write_text(answer.text)
    spec = importlib.util.spec_from_file_location("generated_client", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def client(module: Any, who: Visitor) -> Any:
    return module.Client("http://web", who.secret, http=who.client)


def _members(kind: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", vars(kind))


async def test_it_has_a_method_for_every_operation_and_types_that_resolve(
    module: ModuleType,
) -> None:
    made = _members(module.Client)

    assert {endpoint.name for endpoint in ENDPOINTS} <= set(made)
    for endpoint in ENDPOINTS:
        assert "return" in get_type_hints(made[endpoint.name], vars(module))
    for value in vars(module).values():
        if isinstance(value, type):
            get_type_hints(value, vars(module))


async def test_a_schedule_is_made_and_run_once_with_a_key(module: Any, visitor: Visitor) -> None:
    api = client(module, visitor)
    await api.change_schedule({"preset_id": ODDS, "enabled": True}, if_match='"0"')
    first = await api.ask_for_run(idempotency_key="k")
    again = await api.ask_for_run(idempotency_key="k")
    run = await api.read_run(first["run_id"])
    with pytest.raises(module.Refused) as refused:
        await api.change_schedule({"enabled": False}, if_match='"0"')

    assert (await api.read_schedule())["preset_id"] == ODDS
    assert first == again
    assert (run["status"], run["not_before"], run["deferred_until"]) == ("queued", None, None)
    assert refused.value.status == 412
    assert "revision" in refused.value.problem["detail"]


async def test_lists_are_read_page_by_page_and_exports_in_parts(
    module: Any, visitor: Visitor, org: Org, pool: Pool
) -> None:
    api = client(module, visitor)
    for number in range(5):
        await had_item(pool, org, NOON, source=f"s{number}")

    pages = [page async for page in module.pages(api.list_items, limit=2)]
    export = b"".join([part async for part in api.export_rows("items", format="jsonl")])

    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    assert len(export.splitlines()) == 5
    with pytest.raises(module.Refused, match="404"):
        _ = [part async for part in api.export_rows("nothing")]


async def test_the_operators_part_takes_names_with_any_characters(
    module: Any, visitor: Visitor, pool: Pool, clock: SettableClock
) -> None:
    operator = await operator_with(visitor.client, pool, clock, Scope.ADMIN)
    api = client(module, operator)

    org = await api.create_organization({"name": "Fresh"})
    token = await api.create_token_of_organization(org["id"], {"scope": "admin", "data": True})
    theirs = client(module, Visitor(visitor.client, token["token"]))
    matches = await theirs.list_matches(market="1x2")
    text = await theirs.list_matches(format="csv")
    with pytest.raises(module.Refused) as refused:
        await api.read_job("source:a/b c?d")

    assert matches == {"matches": [], "next_cursor": None}
    assert text.startswith("match,kickoff,")
    assert refused.value.problem["detail"] == "there is no schedule 'source:a/b c?d'"
    assert await api.revoke_token(token["id"]) is None
