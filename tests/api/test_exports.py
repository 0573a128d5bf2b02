"""Exports over HTTP: streamed, by format, and continued where one broke off."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.core.records import Item
from app.orgs import exports
from app.store import tenancy
from app.store.content import items, partitions
from app.store.db import Connection, Pool
from app.store.orgs import exports as store
from app.store.orgs import orgs
from app.store.reports.exports import ExportRange
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from app.web.api import exports as handlers
from tests.api.clients import Org, Visitor, fields, had_item, had_run, problem
from tests.clock import NOON
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.dashboard.server import Site
from tests.horizon import settled
from tests.wait import until

COUNT = 1203  # more than two pages


@pytest.fixture
async def collected(pool: Pool, org: Org, other: Org) -> None:
    page = [Item("shop", f"k{number:04}", {"n": number}) for number in range(COUNT)]
    page.append(Item("shop", "=cmd()", {"n": -1}))
    async with tenancy.org_transaction(pool, org.id) as connection:
        await items.write(connection, org.id, "shop", page, NOON, uuid4())
    await had_item(pool, other, NOON, source="strangers")
    await settled(pool)


async def exported(who: Visitor, what: str, **query: Any) -> httpx.Response:
    answer = await who("GET", f"/collection/exports/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.usefixtures("collected")
async def test_every_row_is_in_the_csv_once_and_no_formula(visitor: Visitor) -> None:
    answer = await exported(visitor, "items")

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    keys = sorted(row["key"] for row in rows)
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="items.csv"' in answer.headers["content-disposition"]
    assert keys == ["'=cmd()", *(f"k{number:04}" for number in range(COUNT))]
    assert json.loads(rows[-1]["data"]) == {"n": COUNT - 1}
    assert "strangers" not in answer.text


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("what", ["items", "changes"])
async def test_an_export_that_broke_off_is_continued_after_its_last_row(
    visitor: Visitor, what: str
) -> None:
    whole = [
        json.loads(line) for line in (await exported(visitor, what, format="jsonl")).iter_lines()
    ]
    broken = whole[:700]

    rest = await exported(visitor, what, format="jsonl", after=broken[-1]["cursor"])

    assert len(whole) == COUNT + 1
    assert broken + [json.loads(line) for line in rest.iter_lines()] == whole


async def test_runs_are_exported_by_their_time(visitor: Visitor, org: Org, pool: Pool) -> None:
    runs = [await had_run(pool, org, NOON + timedelta(hours=n)) for n in range(3)]
    since = (NOON + timedelta(hours=1)).isoformat()

    first = [json.loads(x) for x in (await exported(visitor, "runs", format="jsonl")).iter_lines()]
    later = await exported(visitor, "runs", format="jsonl", since=since)
    before = await exported(visitor, "runs", format="jsonl", until=since)
    rest = await exported(visitor, "runs", format="jsonl", after=first[0]["cursor"])

    assert [row["id"] for row in first] == [str(run) for run in runs]
    assert [json.loads(line)["id"] for line in before.text.splitlines()] == [str(runs[0])]
    assert later.text == rest.text
    assert len(later.text.splitlines()) == 2


async def add(connection: Connection, org: Org, what: str) -> None:
    if what == "items":
        await items.write(
            connection, org.id, "shop", [Item("shop", uuid4().hex, {})], NOON, uuid4()
        )
        return
    request = RunRequest(uuid4(), "collection", {}, "tests", 3, 60, org_id=org.id)
    await run_rows.request(connection, request, NOON)


async def lines(visitor: Visitor, what: str, **query: Any) -> list[dict[str, Any]]:
    return [
        json.loads(x) for x in (await exported(visitor, what, format="jsonl", **query)).iter_lines()
    ]


@pytest.mark.parametrize("what", ["items", "runs"])
async def test_no_row_that_commits_late_is_passed_by(
    visitor: Visitor, org: Org, pool: Pool, what: str
) -> None:
    """One writer waits for another, which has rows before and after its own."""
    async with tenancy.org_transaction(pool, org.id) as late:
        await late.fetchval("SELECT now()")
        async with pool.acquire() as other, other.transaction():
            await add(other, org, what)
            adding = asyncio.create_task(add(late, org, what))
            await until(lambda: _done_or_blocked(pool, adding), what="the late writer")
            await add(other, org, what)
        await adding
        first = asyncio.create_task(lines(visitor, what))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(first), 0.5)

    rows = await first
    rest = await lines(visitor, what, after=rows[-1]["cursor"])

    assert len(rows + rest) == 3


async def _done_or_blocked(pool: Pool, task: asyncio.Task[None]) -> bool:
    blocked = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    return task.done() or await pool.fetchval(blocked)


@pytest.mark.parametrize("what", ["items", "runs"])
async def test_what_is_written_after_an_export_is_after_its_cursors(
    visitor: Visitor, org: Org, pool: Pool, what: str
) -> None:
    """Its transaction began before those of the rows that were exported."""
    async with tenancy.org_transaction(pool, org.id) as late:
        await late.fetchval("SELECT now()")
        async with pool.acquire() as other:
            await add(other, org, what)
        rows = await lines(visitor, what)
        await add(late, org, what)

    assert len(await lines(visitor, what, after=rows[-1]["cursor"])) == 1


async def test_an_export_that_waits_too_long_for_a_writer_is_to_be_repeated(
    visitor: Visitor, org: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SETTLE_SECONDS", 0.1)
    async with tenancy.org_transaction(pool, org.id) as late:
        await add(late, org, "items")
        answer = await visitor("GET", "/collection/exports/items")

    assert problem(answer, 503)
    assert answer.headers["retry-after"]
    assert len(await lines(visitor, "items")) == 1


@pytest.mark.parametrize("what", ["items", "runs"])
async def test_an_export_waits_for_no_transaction_of_another_organisation(
    visitor: Visitor, org: Org, other: Org, pool: Pool, what: str
) -> None:
    async with tenancy.org_transaction(pool, org.id) as own:
        await add(own, org, what)
    async with tenancy.org_transaction(pool, other.id) as long:
        await add(long, other, what)
        rows = await asyncio.wait_for(lines(visitor, what), 5)

    assert len(rows) == 1


@pytest.mark.usefixtures("collected")
async def test_parquet_has_the_types_of_the_columns(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet: Any = import_module("pyarrow.parquet")
    monkeypatch.setattr(exports, "ROW_GROUP_PAGES", 1)

    answer = await exported(visitor, "items", format="parquet")

    table = parquet.read_table(io.BytesIO(answer.content))
    assert table.num_rows == COUNT + 1
    assert parquet.ParquetFile(io.BytesIO(answer.content)).num_row_groups == 3
    assert str(table.schema.field("changed_at").type) == "timestamp[us, tz=UTC]"
    assert table.column("changed_at")[0].as_py() == NOON


async def changes_of_two_minutes(pool: Pool, org: Org, name: str = "k") -> None:
    for number in range(2):
        async with tenancy.org_transaction(pool, org.id) as connection:
            page = [Item("shop", f"{name}{number}", {"n": number})]
            at = NOON + timedelta(minutes=number)
            await items.write(connection, org.id, "shop", page, at, uuid4())
    await settled(pool)


async def drop_the_first_minute(pool: Pool) -> None:
    await partitions.drop_ended(pool, NOON + timedelta(seconds=30), partitions.CHANGES)


async def test_an_export_is_not_continued_over_changes_that_retention_dropped(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    await changes_of_two_minutes(pool, org)
    lines = (await exported(visitor, "changes", format="jsonl")).text.splitlines()
    first, last = [json.loads(line)["cursor"] for line in lines]
    await drop_the_first_minute(pool)

    before = first.partition(".")[0] + ".0"
    gone = await visitor("GET", "/collection/exports/changes", params={"after": before})
    after = await exported(visitor, "changes", format="jsonl", after=last)
    anew = await exported(visitor, "changes", format="jsonl")

    assert "no longer kept" in problem(gone, 410)["detail"]
    assert after.text == ""
    assert [json.loads(line)["cursor"] for line in anew.iter_lines()] == [last]


@pytest.mark.parametrize(
    ("what", "after"),
    [("items", "999999999"), ("runs", f"2100-01-01T00:00:00+00:00_{UUID(int=0)}")],
)
async def test_an_export_is_not_continued_after_a_row_that_is_not_written_yet(
    visitor: Visitor, what: str, after: str
) -> None:
    """A backup was restored: rows that are written next would be passed by."""
    answer = await visitor("GET", f"/collection/exports/{what}", params={"after": after})

    assert "start again" in problem(answer, 410)["detail"]


async def test_an_export_breaks_off_where_retention_drops_what_it_has_not_read(
    site: Site, org: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await changes_of_two_minutes(pool, org)
    await changes_of_two_minutes(pool, org, "later")
    after_page(monkeypatch, 2, lambda: drop_the_first_minute(pool))

    with pytest.raises(httpx.RemoteProtocolError):
        await export_from(site, org, "changes")


async def test_an_export_breaks_off_when_its_token_is_revoked(
    site: Site, org: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "REVALIDATE_SECONDS", 0.0)
    await changes_of_two_minutes(pool, org)

    async def revoke() -> None:
        assert await orgs.revoke(pool, UUID(org.secrets[Scope.READ][3:35]), NOON)

    after_page(monkeypatch, 2, revoke)

    with pytest.raises(httpx.RemoteProtocolError):
        await export_from(site, org, "items")


@pytest.fixture
async def site(
    dsn: str, redis_url: str, redis: ArqRedis, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Site]:
    """A server of the web that exports row by row."""
    del redis
    monkeypatch.setattr(exports, "PAGE_ROWS", 1)
    async with sites.opened(config_for(dsn, redis_url), pool) as opened:
        yield opened


async def export_from(site: Site, org: Org, what: str) -> str:
    await site.pool.execute("UPDATE api_tokens SET expires_at = NULL")
    headers = {"authorization": f"Bearer {org.secrets[Scope.READ]}"}
    async with httpx.AsyncClient(base_url=site.url, headers=headers) as client:
        return (await client.get(f"/collection/exports/{what}")).text


def after_page(
    monkeypatch: pytest.MonkeyPatch, number: int, then: Callable[[], Awaitable[None]]
) -> None:
    """Call `then` when that page of an export has been read."""
    read, count = store.rows, 0

    async def rows(*arguments: Any) -> list[dict[str, Any]]:
        nonlocal count
        count += 1
        found = await read(*arguments)
        if count == number:
            await then()
        return found

    monkeypatch.setattr(store, "rows", rows)


async def test_large_items_make_small_pages_and_row_groups(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    parquet: Any = import_module("pyarrow.parquet")
    size = 200_000
    async with tenancy.org_transaction(pool, org.id) as connection:
        large = [Item("shop", f"k{number:04}", {"text": "x" * size}) for number in range(180)]
        await items.write(connection, org.id, "shop", large, NOON, uuid4())

    span = ExportRange(None, None)
    pages = [
        len(page)
        async for page in exports.pages(pool, org.id, store.ORG_EXPORTS["items"], span, None)
    ]
    answer = await exported(visitor, "items", format="parquet")

    assert sum(pages) == len(large)
    assert max(pages) * size < 12_000_000
    file = parquet.ParquetFile(io.BytesIO(answer.content))
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sum(groups) == len(large)
    assert max(groups) * size < 32_000_000


@pytest.mark.usefixtures("collected")
async def test_another_organisation_exports_its_own(visitor: Visitor, other: Org) -> None:
    stranger = replace(visitor, secret=other.secrets[Scope.READ])

    rows = (await exported(stranger, "items", format="jsonl")).text.splitlines()

    assert [json.loads(row)["source"] for row in rows] == ["strangers"]


async def test_what_is_asked_wrongly_is_refused_before_the_stream(visitor: Visitor) -> None:
    for what, query, field in (
        ("items", {"after": "x"}, "after"),
        ("runs", {"after": "2026-01-01_x"}, "after"),
        ("changes", {"after": "1"}, "after"),
        ("items", {"format": "xml"}, "format"),
    ):
        answer = await visitor("GET", f"/collection/exports/{what}", params=query)
        assert fields(answer) == [field]
    assert (await visitor("GET", "/collection/exports/secrets")).status_code == 404
