"""Reads of runs: by the schedule's name, by filters, page by page."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlmodel import col, select

from app.models.runs import RunRow
from app.store import select as selects
from app.store.db import Pool
from app.store.runs import listing, run_pages, run_rows
from app.store.runs.listing import RejectedFilter, RunFilter
from app.store.runs.run_rows import RunRequest
from tests.clock import NOON

SCHEDULE = """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from,
                       evaluated_through, created_at, enabled)
VALUES ($1, $2, '{}', '{}', '{}', 1, now(), now(), now(), true) RETURNING id
"""
REJECTED = """
INSERT INTO rejected_records (execution_id, source, partition, page, record_id, reason, data)
VALUES ($1, $2, 'all', 1, $3, 'no price', $4)
"""

AGE = "UPDATE runs SET created_at = $2 WHERE execution_id = $1"
ENDED = """
UPDATE runs SET status = 'cancelled', worker = 'w1', error_message = 'No such host: books.example'
WHERE execution_id = ANY ($1)
"""
BROUGHT = """
INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed, pages,
                         records, inserted, changed, unchanged, rejected, requests, retries, bytes,
                         throttled_ms, duration_seconds)
SELECT id, 'books', 'success', 1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 1 FROM unnest($1::uuid[]) id
"""


async def manual(pool: Pool, task: str, source: str | None = None) -> UUID:
    run_id, params = uuid4(), {} if source is None else {"source": source}
    await run_rows.request(pool, RunRequest(run_id, task, params, "ada", 3, 240), NOON)
    return run_id


async def scheduled(pool: Pool, key: str, task: str) -> UUID:
    schedule_id = await pool.fetchval(SCHEDULE, key, task)
    run_id = await manual(pool, task)
    await pool.execute(
        "UPDATE runs SET schedule_id = $2 WHERE execution_id = $1", run_id, schedule_id
    )
    return run_id


async def test_a_run_is_read_for_its_own_organisation_only(pool: Pool) -> None:
    org, run_id = uuid4(), uuid4()
    await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, 'Acme')", org)
    theirs = RunRequest(run_id, "collection", {}, "ada", 3, 240, org_id=org)
    await run_rows.request(pool, theirs, NOON)

    found = await listing.run(pool, run_id, org)

    assert found is not None
    assert found["execution_id"] == run_id
    assert await listing.run(pool, run_id, uuid4()) is None
    assert await listing.run(pool, await manual(pool, "odds"), org) is None


async def test_a_run_is_listed_under_the_name_of_its_schedule(pool: Pool) -> None:
    names = {
        await scheduled(pool, "source:books", "source"): "source:books",
        await manual(pool, "source", "books"): "source:books",
        await manual(pool, "source", "wares"): "source:wares",
        await scheduled(pool, "poll_news", "poll_news"): "poll_news",
        await manual(pool, "poll_news"): "poll_news",
    }

    rows = await listing.runs(pool, RunFilter(), 10)

    assert {row["execution_id"]: row["job"] for row in rows} == names
    assert {row["task"] for row in rows} == {"source", "poll_news"}
    for name in set(names.values()):
        found = await listing.runs(pool, RunFilter(name), 10)
        assert {row["execution_id"] for row in found} == {i for i, n in names.items() if n == name}
    assert len(await listing.runs(pool, RunFilter("source"), 10)) == 3
    assert await listing.runs(pool, RunFilter("source:none"), 10) == []


async def test_pages_of_runs_have_each_run_once(pool: Pool) -> None:
    created = [await manual(pool, "poll_news") for _ in range(5)]
    await pool.execute("UPDATE runs SET created_at = $1", NOON)  # all at the same instant

    seen: list[UUID] = []
    after = None
    while page := await listing.runs(pool, RunFilter("poll_news", after=after), 2):
        seen += [row["execution_id"] for row in page]
        after = (page[-1]["created_at"], page[-1]["execution_id"])

    assert len(seen) == 5
    assert set(seen) == set(created)


async def test_filters_narrow_the_runs(pool: Pool) -> None:
    first, second = await manual(pool, "poll_news"), await manual(pool, "poll_news")
    await run_rows.cancel_open(pool, [first], NOON, by="ada")
    await pool.execute(
        "UPDATE runs SET created_at = $2 WHERE execution_id = $1", first, NOON - timedelta(days=1)
    )
    await pool.execute("UPDATE runs SET created_at = $2 WHERE execution_id = $1", second, NOON)

    async def found(**filters: object) -> list[UUID]:
        rows = await listing.runs(pool, RunFilter(**filters), 10)  # pyright: ignore[reportArgumentType] - by name
        return [row["execution_id"] for row in rows]

    assert await found(statuses=["cancelled", "lost"]) == [first]
    assert await found(trigger="scheduled") == []
    assert await found(since=NOON) == [second]
    assert await found(until=NOON) == [first]


@pytest.mark.parametrize(
    "filters",
    [
        RunFilter(error="no such host"),
        RunFilter(worker="w1"),
        RunFilter(source="books"),
        RunFilter(statuses=["cancelled"]),
    ],
    ids=["error", "worker", "source", "status"],
)
async def test_what_no_index_answers_is_looked_for_in_so_many_runs_of_each_page(
    pool: Pool, filters: RunFilter
) -> None:
    created = [await manual(pool, "poll_news") for _ in range(7)]
    for number, run_id in enumerate(created):
        await pool.execute(AGE, run_id, NOON - timedelta(minutes=number // 2))
    wanted = [created[0], created[6]]
    await pool.execute("UPDATE runs SET status = 'failure'")
    await pool.execute(ENDED, wanted)
    await pool.execute(BROUGHT, wanted)

    pages: list[tuple[list[UUID], int | None]] = []
    async with pool.acquire() as connection, connection.transaction():
        while True:
            page = await run_pages.run_page(connection, filters, 5, examined=2)
            pages.append(([row["execution_id"] for row in page.rows], page.examined))
            if page.after is None:
                break
            filters = replace(filters, after=page.after)

    assert pages == [([created[0]], 2), ([], 2), ([], 2), ([created[6]], None)]


async def test_rejected_records_name_the_job_and_are_all_counted(pool: Pool) -> None:
    run_id, other = await manual(pool, "source", "books"), await manual(pool, "poll_news")
    for number in range(3):
        await pool.execute(REJECTED, run_id, "books", str(number), b"x" * 1000)
    await pool.execute(REJECTED, other, "asknews_news", "9", b"{}")

    rows, count = await listing.rejected(pool, RejectedFilter(job="source:books"), 2)

    assert ([row["record_id"] for row in rows], count) == (["0", "1"], 3)
    assert {(row["job"], row["execution_id"]) for row in rows} == {("source:books", run_id)}
    assert (len(rows[0]["data"]), rows[0]["size"]) == (listing.REJECTED_BYTES, 1000)
    assert (await listing.rejected(pool, RejectedFilter(source="asknews_news"), 9))[1] == 1


async def test_an_error_is_found_by_its_kind_and_its_text_is_no_pattern(pool: Pool) -> None:
    blocked, full = await manual(pool, "poll_news"), await manual(pool, "poll_news")
    text = (
        "UPDATE runs SET status = 'failure', error_type = $2, error_message = $3"
        " WHERE execution_id = $1"
    )
    await pool.execute(text, blocked, "http_status", "refused")
    await pool.execute(text, full, "OSError", "the disk is 100% full")

    async def found(error: str) -> list[UUID]:
        return [row["execution_id"] for row in await listing.runs(pool, RunFilter(error=error), 9)]

    assert await found("HTTP_status") == [blocked]
    assert await found("100% full") == [full]
    assert await found("disk%full") == []


async def test_rejected_records_are_of_the_newest_run_first_and_not_older_than_asked(
    pool: Pool,
) -> None:
    newer, older = await manual(pool, "poll_news"), await manual(pool, "poll_news")
    for run_id, age in ((older, 2), (newer, 1)):
        await pool.execute(AGE, run_id, NOON - timedelta(hours=age))
        await pool.execute(REJECTED, run_id, "asknews_news", str(age), b"{}")
    at = "UPDATE rejected_records SET created_at = $2 WHERE execution_id = $1"
    await pool.execute(at, newer, NOON)
    await pool.execute(at, older, NOON - timedelta(hours=2))

    async def ids(**wanted: Any) -> list[str]:
        rows, _ = await listing.rejected(pool, RejectedFilter(**wanted), 9)
        return [row["record_id"] for row in rows]

    assert await ids() == ["1", "2"]
    assert await ids(since=NOON) == ["1"]


async def test_a_run_is_found_by_the_beginning_of_its_id_in_either_case(pool: Pool) -> None:
    run_id = UUID("abcdef00-0000-4000-8000-000000000000")
    await run_rows.request(pool, RunRequest(run_id, "poll_news", {}, "ada", 3, 240), NOON)

    for begins in ("abcdef", "ABCDEF"):
        assert await listing.ids_with_prefix(pool, begins) == [run_id]


async def test_models_can_be_queried_under_their_plain_names(pool: Pool) -> None:
    run_id = await manual(pool, "poll_news")

    statement = select(RunRow.execution_id, RunRow.status).where(col(RunRow.job) == "poll_news")

    rows = await selects.fetch(pool, statement)
    assert rows == [{"execution_id": run_id, "status": "queued"}]
