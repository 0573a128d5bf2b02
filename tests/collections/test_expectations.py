"""What is expected of a source is expected of an organisation's too."""

from app.context import WorkerContext
from tests.collections import harness

USUAL = 10_000  # rows that the site is said to have had before


async def test_a_collection_whose_source_lost_most_of_its_rows_says_so_and_marks_nothing(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context)
    await acme.choose({"source": "betpawa"})
    good = [(await acme.run())["status"] for _ in range(3)]
    await context.pool.execute("UPDATE run_sources SET records = $1", USUAL)
    await context.pool.execute(
        "INSERT INTO items (org_id, source, key, content_hash, first_seen, last_seen, changed_at)"
        " VALUES ($1, 'betpawa', 'gone', '', now(), now(), now())",
        acme.org_id,
    )

    run = await acme.run()

    missing = [key for key, row in (await acme.items()).items() if row["missing_since"]]
    assert good == ["success"] * 3
    assert (run["status"], run["error_type"]) == ("partial_failure", "expectation")
    assert run["error_message"].startswith("betpawa: ")
    assert missing == []
