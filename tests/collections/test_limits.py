"""What an organisation may use up: each limit stops its run, and says which it was."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.context import WorkerContext
from app.core.errors import BudgetExceeded
from app.fetch.client import RequestCounts
from app.orgs.limits import OrgLimits
from app.store.db import Pool
from app.store.runs.progress import SourceProgress
from scripts.standin.testing import Standin
from tests.collections import harness
from workers.budget import CollectionBudget


def asked(web: Standin) -> int:
    """How many requests the pretend web has had."""
    return sum(site["requests"] for site in web.stats()["sites"].values())


def received(run: dict[str, Any]) -> int:
    """How many bytes a run has had."""
    return sum(source["bytes"] for source in run["sources"].values())


async def test_a_run_over_its_pages_keeps_what_it_has_and_asks_for_none_more(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)
    await acme.limit(max_pages=4)

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("partial_failure", "over_limit")
    assert "max_pages = 4 (setting ORG_MAX_PAGES" in run["error_message"]
    assert asked(standin) == 4
    assert len(await acme.items()) == run["stats"]["inserted"] > 0


async def test_a_run_over_its_megabytes_ends_likewise(context: WorkerContext) -> None:
    acme, bolt = await harness.client(context, "Acme"), await harness.client(context, "Bolt")
    whole = received(await bolt.run())
    half = round(whole / 2_000_000, 4)
    await acme.limit(max_mb=half)

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("partial_failure", "over_limit")
    assert f"max_mb = {half:g} (setting ORG_MAX_MB" in run["error_message"]
    assert half * 1_000_000 < received(run) < whole
    assert 0 < len(await acme.items()) == run["stats"]["inserted"] < 90


async def test_a_run_over_its_minutes_timed_out_by_the_smaller_of_both_limits(
    context: WorkerContext, standin: Standin
) -> None:
    standin.fault("/bet9ja", "delay", seconds=60)
    acme = await harness.client(context)
    await acme.limit(max_minutes=0.05)

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("timed_out", "over_limit")
    assert "max_minutes = 0.05 (setting ORG_MAX_MINUTES" in run["error_message"]
    kept = sum(source["inserted"] for source in run["sources"].values())
    assert len(await acme.items()) == kept


async def test_a_schedule_with_a_shorter_timeout_than_the_limit_keeps_it(
    context: WorkerContext, standin: Standin
) -> None:
    standin.fault("/bet9ja", "delay", seconds=60)
    acme = await harness.client(context)

    run = await acme.run(seconds=0.6)

    assert (run["status"], run["error_message"]) == ("timed_out", "took longer than 0.6 s")


async def test_a_preset_with_too_many_sources_asks_nobody(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)
    await acme.limit(max_sources=2)

    run = await acme.run()

    assert (run["status"], run["error_type"]) == ("failure", "over_limit")
    assert "3 is over the limit max_sources = 2 (setting ORG_MAX_SOURCES" in run["error_message"]
    assert asked(standin) == 0


async def test_a_run_too_many_in_a_day_asks_nobody_and_does_not_count_itself(
    context: WorkerContext, standin: Standin
) -> None:
    acme = await harness.client(context)
    await acme.choose({"source": "sportybet"})
    await acme.limit(runs_per_day=2)
    for _ in range(2):
        assert (await acme.run())["status"] == "success"
    before = asked(standin)

    refused = [await acme.run() for _ in range(2)]
    after = asked(standin)
    await context.pool.execute(
        "UPDATE runs SET created_at = created_at - $1::interval WHERE status = 'success'",
        timedelta(hours=24),
    )
    next_day = await acme.run()

    assert {(run["status"], run["error_type"]) for run in refused} == {("failure", "over_limit")}
    assert "runs_per_day = 2 (setting ORG_RUNS_PER_DAY" in refused[0]["error_message"]
    assert after == before
    assert next_day["status"] == "success"


async def test_of_runs_that_are_queued_at_once_as_many_run_as_the_day_has_left(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context)
    await acme.choose({"source": "sportybet"})
    await acme.limit(runs_per_day=2)
    queued = [await acme.queue() for _ in range(4)]

    runs = [await acme.run(run_id) for run_id in queued]

    assert [run["status"] for run in runs] == ["success"] * 2 + ["failure"] * 2


async def test_one_organisations_limits_are_not_anothers(context: WorkerContext) -> None:
    acme, bolt = await harness.client(context, "Acme"), await harness.client(context, "Bolt")
    await acme.limit(max_pages=1)

    first, second = await acme.run(), await bolt.run()

    assert (first["error_type"], second["status"]) == ("over_limit", "success")


LIMITS = OrgLimits(
    max_sources=10,
    runs_per_day=10,
    max_pages=10,
    max_mb=1.0,
    max_minutes=1.0,
    max_recipes=10,
    max_collections=10,
    max_rows=10,
    max_stored_mb=1.0,
)


@pytest.mark.parametrize(
    ("had", "left"),
    [({}, 10), ({"requests": 8, "retries": 1}, 3), ({"bytes": 1_000_001}, 0)],
)
def test_what_earlier_attempts_had_is_taken_off(had: dict[str, Any], left: int) -> None:
    budget = CollectionBudget(LIMITS)
    budget.count_earlier([SourceProgress("toy", **had)])

    for _ in range(left):
        budget.count_page()

    with pytest.raises(BudgetExceeded):
        budget.count_page()


def test_bytes_count_while_they_come_in() -> None:
    tally = RequestCounts()
    budget = CollectionBudget(LIMITS, tallies=[tally])
    budget.count_page()
    tally.bytes = 1_500_000

    with pytest.raises(BudgetExceeded, match=r"1\.5 is over the limit max_mb = 1 "):
        budget.count_page()


def test_decoded_bytes_count_where_they_are_more() -> None:
    tally = RequestCounts(bytes=3_400, decoded=49_000_000)
    budget = CollectionBudget(LIMITS, tallies=[tally])

    with pytest.raises(BudgetExceeded, match="max_mb"):
        budget.count_page()


USAGE = "SELECT rows, bytes FROM org_usage WHERE org_id = $1"
COUNTED = """
SELECT count(*) AS rows, coalesce(sum(item_size(data, key)), 0)::bigint AS bytes
FROM items WHERE org_id = $1
"""


async def counts(pool: Pool, query: str, org_id: UUID) -> dict[str, int]:
    row = await pool.fetchrow(query, org_id)
    assert row is not None
    return dict(row)


async def test_what_an_organisation_keeps_is_counted_and_bounded(context: WorkerContext) -> None:
    acme = await harness.client(context, "Acme")
    pool = context.pool
    await acme.run()
    kept, counted = (
        await counts(pool, USAGE, acme.org_id),
        await counts(pool, COUNTED, acme.org_id),
    )
    await pool.execute(
        "UPDATE items SET data = data || '{\"more\": 1}' WHERE org_id = $1", acme.org_id
    )
    await pool.execute(
        "DELETE FROM items WHERE id IN (SELECT id FROM items WHERE org_id = $1 LIMIT 5)",
        acme.org_id,
    )
    later, recounted = (
        await counts(pool, USAGE, acme.org_id),
        await counts(pool, COUNTED, acme.org_id),
    )
    await pool.execute("DELETE FROM page_validators")  # so that all pages are stored again
    await acme.limit(max_rows=recounted["rows"])
    refused = await acme.run()

    assert kept["rows"] > 10
    assert kept == counted
    assert later == recounted
    assert refused["error_type"] == "over_limit"
    assert "max_rows" in refused["error_message"]
    assert (await counts(pool, USAGE, acme.org_id))["rows"] == recounted["rows"]
