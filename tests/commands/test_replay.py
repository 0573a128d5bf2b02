"""`replay` as it is typed, for a recipe of the operator's."""

from pathlib import Path

import pytest

from app.context import WorkerContext
from app.core.errors import BadRecipe, UnknownJob
from tests import worker_harness
from tests.commands.conftest import Rollcall, RollcallJson

WARES = """
name = "wares"
kind = "json"
url = "https://example.com/wares"
[extract]
records = "items"
[extract.fields]
id = "id"
[store]
key = "id"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wares.toml").write_text(WARES, "utf-8")
    monkeypatch.setenv("SOURCES_DIR", str(tmp_path))


async def test_a_recipe_is_named_by_its_schedule(rollcall_json: RollcallJson) -> None:
    result = await rollcall_json("replay", "source:wares", "--since", "1d")

    assert (result["pages"], result["run_id"]) == (0, None)


async def test_the_stored_pages_of_a_source_are_parsed_again(
    context: WorkerContext, rollcall_json: RollcallJson
) -> None:
    run_id = await worker_harness.perform(context)
    stored = await context.pool.fetchval(
        "SELECT count(*) FROM raw_pages WHERE source = 'bet9ja' AND partition IS NOT NULL"
    )
    rows = await worker_harness.source_rows(context.pool, run_id)

    found = await rollcall_json("replay", "bet9ja", "--since", "1d", "--dry-run")

    assert found["pages"] == stored > 0
    assert found["records"] == rows["bet9ja"]["records"] - rows["bet9ja"]["rejected"] > 0
    assert (found["new"], found["changed"], found["run_id"]) == (0, 0, None)


async def test_what_is_not_there_is_refused_with_what_there_is(rollcall: Rollcall) -> None:
    nobody = await rollcall("replay", "nobody", "--since", "1d")
    gone = await rollcall("replay", "source:gone", "--since", "1d")

    assert isinstance(nobody.exception, UnknownJob)
    assert "bet9ja" in str(nobody.exception)
    assert "source:wares" in str(nobody.exception)
    assert isinstance(gone.exception, BadRecipe)


async def test_a_dry_run_writes_nothing_and_a_replay_only_after_a_yes(
    context: WorkerContext, rollcall: Rollcall, rollcall_json: RollcallJson
) -> None:
    await worker_harness.perform(context)
    await context.pool.execute("UPDATE odds_prices SET price = 999")
    await context.pool.execute("UPDATE odds_events SET fingerprint = NULL")
    wrong = "SELECT count(*) FROM odds_prices p JOIN odds_events e ON e.id = p.event_id"
    wrong += " WHERE price = 999 AND platform = 'bet9ja'"
    before = await context.pool.fetchval(wrong)

    dry = await rollcall_json("replay", "bet9ja", "--since", "1d", "--dry-run")
    await rollcall("replay", "bet9ja", "--since", "1d", answer="n\n")
    untouched = await context.pool.fetchval(wrong)
    done = await rollcall_json("replay", "bet9ja", "--since", "1d", "--yes")

    assert before == untouched > 0
    assert dry["changed"] > 0
    assert (dry["run_id"], done["run_id"] is None) == (None, False)
    assert await context.pool.fetchval(wrong) == 0
