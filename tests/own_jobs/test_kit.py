"""The kit for tests of own jobs, used as its documentation says, and by the jobs of that page."""

import importlib
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from arq.connections import ArqRedis

from app.jobs.testing import Lab, PretendWeb, contract, lab
from app.jobs.testing.lab import private_servers
from app.store.servers import ServerUrls
from tests.own_tables import forgotten_afterwards
from workers import discovery

PAGE = Path(__file__).parents[2] / "docs" / "own-jobs.md"
BLOCK = re.compile(r"^```python\n# (jobs/\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOP = "https://shop.example/ng/prices"
NIGHT = datetime(2026, 3, 3, 1, tzinfo=UTC)  # two o'clock in Lagos


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the jobs of docs/own-jobs.md."""
    folder = tmp_path_factory.mktemp("stranger") / "stranger_jobs"
    folder.mkdir()
    for name, text in BLOCK.findall(PAGE.read_text()):
        (folder / Path(name).name).write_text(text)
    with forgotten_afterwards():
        yield folder
    for name in [name for name in sys.modules if name.startswith("stranger_jobs")]:
        del sys.modules[name]


@pytest.fixture
def places(dsn: str, redis_url: str, redis: ArqRedis) -> ServerUrls:
    """The test's own servers."""
    del redis  # emptied
    return ServerUrls(dsn, redis_url)


def loaded(pages: Path, name: str) -> ModuleType:
    return discovery.import_file(pages / f"{name}.py")


@pytest.fixture
def shop() -> PretendWeb:
    """A shop with two prices."""
    web = PretendWeb()
    web.page(SHOP, [{"sku": "a", "price": "1.50"}, {"sku": "b", "price": "2.25"}])
    return web


async def test_a_poll_fills_a_table_of_its_own(
    pages: Path, places: ServerUrls, shop: PretendWeb
) -> None:
    prices = loaded(pages, "prices").prices

    async with lab(prices, web=shop, servers=places) as opened:
        result = await opened.tick(datetime(2026, 3, 2, 12, 7, tzinfo=UTC))
        shop.page(SHOP, [{"sku": "a", "price": "1.75"}])
        again = await opened.run(region="ng")
        rows = await opened.rows("SELECT sku, price::text FROM shop_prices ORDER BY sku")

    assert (result.status, result.stats) == ("success", {"stored": 2, "requests": 1})
    assert again.status == "success"
    assert rows == [{"sku": "a", "price": "1.75"}, {"sku": "b", "price": "2.25"}]
    assert shop.requests == [SHOP, SHOP]


async def odds_moved(opened: Lab, at: datetime, moves: int) -> None:
    """One match of bet9ja, whose price was seen to change so many times at `at`."""
    run_id = uuid4()
    await opened.context.pool.execute(
        "INSERT INTO odds_events (platform, platform_event_id, country, competition, home, away,"
        " kickoff, first_seen_at, updated_at, run_id, seen_at, seen_run_id) VALUES"
        " ('bet9ja', '1', 'England', 'Premier League', 'Home', 'Away', $1, $1, $1, $2, $1, $2)",
        at, run_id,
    )  # fmt: skip
    for number in range(moves):
        await opened.context.pool.execute(
            "INSERT INTO odds_price_changes (event_id, market, outcome, price, active, observed_at,"
            " run_id) SELECT id, '1x2', 'home', $2, true, $1, run_id FROM odds_events",
            at + timedelta(seconds=number), number + 2,
        )  # fmt: skip


async def test_a_report_reads_the_odds_of_its_window_and_no_others(
    pages: Path, places: ServerUrls
) -> None:
    report = loaded(pages, "report").report

    async with lab(report, servers=places) as opened:
        await odds_moved(opened, NIGHT - timedelta(hours=3), 3)
        first = await opened.tick(NIGHT)
        second = await opened.tick(NIGHT + timedelta(days=1))
        rows = await opened.rows("SELECT day::text, platform, moves FROM odds_report")

    assert (first.status, first.stats) == ("success", {"platforms": 1})
    assert second.stats == {"platforms": 0}
    assert rows == [{"day": "2026-03-03", "platform": "bet9ja", "moves": 3}]


SPIDER = """#!/bin/sh
''''exec '{python}' "$0" "$@" # '''
import json, sys
assert sys.argv[1:3] == ["runspider", "spiders/quotes.py"], sys.argv
for number in range(3):
    print(json.dumps({{"id": number, "text": f"quote {{number}}"}}))
print(json.dumps({{"id": 9, "text": "half"}})[:12] if {broken} else "", end="")
sys.exit({code})
"""


@pytest.mark.parametrize(("code", "status"), [(0, "success"), (3, "failure")])
async def test_a_spider_runs_in_its_own_process_and_its_items_are_stored(
    pages: Path,
    places: ServerUrls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    status: str,
) -> None:
    quotes = loaded(pages, "quotes").quotes
    scrapy = tmp_path / "scrapy"
    scrapy.write_text(SPIDER.format(python=sys.executable, code=code, broken=False))
    scrapy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    async with lab(quotes, servers=places) as opened:
        result = await opened.run()
        items = await opened.items("quotes")

    assert result.status == status
    assert [item["text"] for item in items.values()] == ["quote 0", "quote 1", "quote 2"]
    assert result.error_message == (f"the spider ended with code {code}" if code else None)


async def test_a_clock_that_is_set_leads_a_run_through_its_retries(
    pages: Path, places: ServerUrls, shop: PretendWeb
) -> None:
    prices = loaded(pages, "prices").prices
    shop.page(SHOP, {}, status=500)

    async with lab(prices, web=shop, servers=places) as opened:
        failed = await opened.tick(datetime(2026, 3, 2, 12, 7, tzinfo=UTC))
        shop.page(SHOP, [{"sku": "a", "price": "1.50"}])
        done = await opened.execute(failed.id)

    assert (failed.status, failed.events) == ("queued", ("started", "retried"))
    assert (done.status, done.attempt) == ("success", 2)


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_the_poll_of_the_page_is_safe_to_repeat_wherever_its_worker_dies(
    pages: Path, shop: PretendWeb
) -> None:
    report = await contract(loaded(pages, "prices").prices, web=shop, ignore=("seen_at",))

    assert report.faults == ()
    assert report.reached == (
        "after_tick_insert", "after_commit_before_enqueue", "after_enqueue", "after_claim",
        "after_write_1", "before_outcome", "after_outcome",
        "stopped_in_function", "stopped_after_write_1",
    )  # fmt: skip


UNSAFE = """
from sqlmodel import Field, SQLModel

from app.jobs import Run, job


class Counted(SQLModel, table=True):
    __tablename__ = "counted"
    id: int | None = Field(default=None, primary_key=True)
    what: str


@job(tables=[Counted])
async def counting(run: Run) -> None:
    run.session.add(Counted(what="one more"))
    await run.session.commit()
"""


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_a_job_that_adds_a_row_with_each_attempt_is_found_out(pages: Path) -> None:
    (pages / "unsafe.py").write_text(UNSAFE)

    with pytest.raises(AssertionError, match="counting is not safe to repeat") as found:
        await contract(loaded(pages, "unsafe").counting)

    said = str(found.value)
    assert "after_write_1: counted has 2 rows, not 1" in said
    assert "after_claim" not in said


DEAF = """
import asyncio

from app.jobs import Run, job


@job(secrets=["SHOP_KEY"])
async def deaf(run: Run) -> None:
    run.secret("SHOP_KEY")
    try:
        await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        return
    await run.store("deaf", [{"key": "a"}], key="key")
"""


@pytest.mark.acceptance
@pytest.mark.timeout(300)
async def test_a_job_that_takes_a_stop_for_its_end_is_executed_again(pages: Path) -> None:
    (pages / "deaf.py").write_text(DEAF)

    await contract(loaded(pages, "deaf").deaf, secrets={"SHOP_KEY": "sesame"})


async def test_a_database_that_a_superuser_is_in_goes_with_the_servers() -> None:
    async with private_servers() as private:
        used, unused = [(await private.empty()).database for _ in range(2)]
        autovacuum = await asyncpg.connect(used.replace("//rollcall@", "//postgres@", 1))

    assert await autovacuum.fetchval("SELECT count(*) FROM ticks") == 0
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(unused)
    await autovacuum.close()


def test_the_page_shows_three_jobs_and_names_only_what_the_package_promises() -> None:
    names = [name for name, _ in BLOCK.findall(PAGE.read_text())]
    promised: Any = importlib.import_module("app.jobs").__all__

    assert names == ["jobs/prices.py", "jobs/report.py", "jobs/quotes.py"]
    imported = re.findall(r"^from app\.jobs import (.+)$", PAGE.read_text(), re.MULTILINE)
    assert {name.strip() for line in imported for name in line.split(",")} <= set(promised)
