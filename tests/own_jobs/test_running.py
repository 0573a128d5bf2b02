"""What a run gives to its job, and how what the job does becomes the run's outcome."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import arq
import pytest
import structlog
from sqlmodel import Field, SQLModel, col, select
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.core import log
from app.core.enums import RunStatus
from app.jobs import (
    HostLimits,
    Item,
    Job,
    LeaseLost,
    ListingEnd,
    Partition,
    RawPage,
    Run,
    SourceRequest,
    job,
    source,
)
from app.ledger import edit
from app.ledger.decide import decide_schedule
from app.queue.jobs import loads
from app.sources.sites.sportybet import SportyBet
from app.store import tables
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.fetch.hostile import Visit, serving
from workers import odds, registry
from workers.discovery import JOB_OF_CLASS

FAST = HostLimits(rate=10_000, burst=10_000, concurrency=4)


class Price(SQLModel, table=True):
    """A table of a job's own."""

    __tablename__ = "own_prices"  # pyright: ignore[reportAssignmentType] - SQLModel's declared_attr

    sku: str = Field(primary_key=True)
    price: Decimal
    seen_at: datetime | None = Field(default=None)


async def performed(context: WorkerContext, own: Job, **params: Any) -> dict[str, Any]:
    """One run by hand; returns its row."""
    run_id = await worker_harness.perform(context, job=own, params=params)
    return await worker_harness.run_row(context.pool, run_id)


async def scheduled(context: WorkerContext, own: Job) -> UUID:
    """The run of the job's latest tick, queued."""
    (declared,) = own.declared(context.config)
    tick = declared.schedule.previous(context.clock())
    assert tick is not None
    await edit.register(context.pool, [declared], tick - timedelta(seconds=1))
    (queued,) = await decide_schedule(context.pool, declared.key, context.clock())
    return queued.run_id


async def due_again(context: WorkerContext) -> None:
    """The waiting of all queued runs is over."""
    await context.pool.execute("UPDATE runs SET not_before = now() - interval '1 second'")


@pytest.fixture
async def shop() -> AsyncGenerator[str]:
    """A site with one page of JSON; `/gone` is not there."""

    async def answer(visit: Visit) -> None:
        if visit.path == "/gone":
            await visit.answer("404 Not Found", b"{}")
        elif visit.path == "/busy":
            await visit.answer("429 Too Many Requests", b"{}", retry_after="600")
        else:
            await visit.answer(body=json.dumps([{"sku": "a", "price": "1.5"}]).encode())

    async with serving(answer) as url:
        yield url


async def test_parameters_are_typed_and_what_a_job_returns_are_the_runs_stats(
    context: WorkerContext,
) -> None:
    seen: list[object] = []

    @job
    async def own(run: Run, *, region: str = "ng", pages: int = 1) -> dict[str, object]:
        seen.extend((run.trigger, run.tick, run.window, run.attempt, region, pages))
        return {"stored": 42, "share": Decimal("0.5")}

    row = await performed(context, own, pages="3")
    wrong = await performed(context, own, pages="many")

    assert seen == ["manual", None, None, 1, "ng", 3]
    assert (row["status"], row["stats"]) == ("success", {"stored": 42, "share": "0.5"})
    assert (wrong["status"], wrong["error_type"]) == ("failure", "BadParameters")


class Odd(BaseException):
    """An exception that `except Exception` does not catch, as libraries have them."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, Odd])
async def test_whatever_a_job_raises_is_the_failure_of_its_run(
    context: WorkerContext, kind: type[BaseException]
) -> None:
    @job
    async def own(run: Run) -> None:
        del run
        raise kind("the shop is closed")

    row = await performed(context, own)

    ended = (row["status"], row["error_type"], row["error_message"])
    assert ended == ("failure", kind.__name__, "the shop is closed")


@pytest.mark.parametrize("retries", [0, 1])
async def test_a_secret_in_the_text_of_an_error_is_not_stored(
    context: WorkerContext, retries: int
) -> None:
    @job(retries=retries)
    async def own(run: Run) -> None:
        run.part_failed("books", "api_key=sesame1 is refused")
        if retries:
            raise ValueError("https://me:sesame2@shop.example/?token=sesame3 is closed")

    row = await performed(context, own)

    events = await context.pool.fetch("SELECT detail FROM run_events")
    stored = f"{row} {[event['detail'] for event in events]}"
    assert "***" in stored
    assert "sesame" not in stored


async def enqueued(
    context: WorkerContext, own: Job, *args: object, **params: object
) -> dict[str, Any]:
    """One arq job as a script enqueues it; returns its run's row."""
    ctx = worker_harness.ctx_of(context)
    await registry.arq_task(own).coroutine(ctx, *args, **params)
    return await worker_harness.run_row(context.pool, uuid5(NAMESPACE_OID, ctx["job_id"]))


async def test_positional_arguments_of_an_arq_job_are_parameters_by_their_order(
    context: WorkerContext,
) -> None:
    @job
    async def own(ctx: dict[str, Any], region: str, pages: int = 1, *, run_id: str = "") -> object:
        del ctx
        return [region, pages, run_id]

    one = await enqueued(context, own, "ng")
    both = await enqueued(context, own, str(uuid4()), 2, run_id="mine")
    named = await enqueued(context, own, "ke", pages=3)
    surplus = await enqueued(context, own, "ng", 1, "x")
    twice = await enqueued(context, own, "ng", region="ke")

    assert one["stats"] == {"result": ["ng", 1, ""]}
    assert both["stats"] == {"result": [both["params"]["region"], 2, "mine"]}
    assert (named["params"], named["status"]) == ({"region": "ke", "pages": 3}, "success")
    assert surplus["error_message"].startswith("own: argument 3: is not known here")
    assert twice["error_message"].startswith("own: argument 1: is not known here")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[-Infinity]"])
async def test_an_arq_job_with_a_number_that_json_does_not_have_is_a_failed_run(
    context: WorkerContext, text: str
) -> None:
    @job
    async def own(run: Run, *, x: Any = 0) -> None:
        del run, x

    row = await enqueued(context, own, **loads(f'{{"x": {text}}}'.encode()))

    assert (row["status"], row["error_type"]) == ("failure", "BadParameters")
    assert "a number that JSON does not have" in row["error_message"]


@pytest.mark.parametrize("name", ["status", "error", "event", "self", "execution_id", "exc_info"])
async def test_what_a_job_returns_may_have_the_names_of_the_fields_of_its_log_line(
    context: WorkerContext, name: str
) -> None:
    @job
    async def own(run: Run) -> dict[str, object]:
        del run
        return {name: "mine"}

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        row = await performed(context, own)

    (line,) = [line for line in lines if line["event"] == "run.finished"]
    assert (row["status"], row["stats"]) == ("success", {name: "mine"})
    assert (line["status"], line["stats"]) == ("success", {name: "mine"})
    assert line["execution_id"] == str(row["execution_id"])


async def test_parameters_that_a_job_does_not_take_are_not_tried_again(
    context: WorkerContext,
) -> None:
    @job(retries=2)
    async def own(run: Run, *, pages: int = 1) -> None:
        del run, pages

    row = await performed(context, own, pages="many")

    assert (row["status"], row["retries"]) == ("failure", 0)


async def test_a_scheduled_run_knows_its_tick_and_its_window(context: WorkerContext) -> None:
    seen: list[Any] = []

    @job(every=3600, misfire_grace=3600)
    async def hourly(run: Run) -> None:
        seen.extend((run.tick, run.window))

    run_id = await scheduled(context, hourly)
    await worker_harness.perform(context, run_id, job=hourly)

    tick, window = seen
    assert (await worker_harness.run_row(context.pool, run_id))["status"] == "success"
    assert window == (tick - timedelta(hours=1), tick)


@pytest.mark.parametrize("result", [float("nan"), {"text": "a\0b"}, {"text": "\ud800"}])
async def test_what_cannot_be_stored_is_a_failure_and_not_a_run_without_end(
    context: WorkerContext, result: object
) -> None:
    @job
    async def own(run: Run) -> object:
        del run
        return result

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")


@pytest.mark.parametrize("text", ["\U0001f600", "C:\\udir", "\\u0000", "\\\\u0000", "caf\xe9"])
async def test_any_other_text_is_a_result(context: WorkerContext, text: str) -> None:
    @job
    async def own(run: Run) -> dict[str, str]:
        del run
        return {"best": text}

    row = await performed(context, own)

    assert (row["status"], row["stats"]) == ("success", {"best": text})


@pytest.mark.parametrize("text", ["a\0b", {"a": ["\0"]}])
async def test_parameters_that_cannot_be_stored_are_a_failed_run_and_not_executed(
    context: WorkerContext, text: object
) -> None:
    executed: list[object] = []

    @job
    async def own(run: Run, *, given: object = None) -> None:
        del run
        executed.append(given)

    row = await performed(context, own, given=text)

    assert (row["status"], row["error_type"]) == ("failure", "BadParameters")
    assert "NUL" in row["error_message"]
    assert (executed, row["params"]) == ([], {})


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Exiting(TimeoutError):
    """An exception whose text ends the process."""

    def __str__(self) -> str:  # noqa: PLE0307 - what is tested
        sys.exit(3)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
async def test_text_that_postgres_refuses_is_no_reason_to_repeat_a_run(
    context: WorkerContext, text: str
) -> None:
    @job
    async def failing(run: Run) -> None:
        del run
        raise ValueError(f"no price in {text}")

    @job
    async def partly(run: Run) -> None:
        run.part_failed("lagos", text)

    @job
    async def waiting(run: Run) -> None:
        raise run.defer(60, text)

    rows = [await performed(context, own) for own in (failing, partly, waiting)]

    assert [(row["status"], row["deferrals"]) for row in rows] == [
        ("failure", 0), ("partial_failure", 0), ("queued", 1),
    ]  # fmt: skip
    assert rows[0]["error_message"].startswith("no price in a")


@pytest.mark.parametrize("error", [Unprintable, Exiting])
async def test_an_exception_without_text_is_a_failure(
    context: WorkerContext, error: type[Exception]
) -> None:
    @job
    async def own(run: Run) -> None:
        del run
        raise error

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", error.__name__)


async def test_a_job_that_awaits_what_was_cancelled_has_failed(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        del run
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    row = await performed(context, own)

    assert (row["status"], row["attempt"], row["error_type"]) == ("failure", 1, "CancelledError")


async def test_a_job_that_exits_has_failed_and_ends_no_worker(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        del run
        sys.exit("no config")

    row = await performed(context, own)

    assert (row["status"], row["attempt"], row["error_type"]) == ("failure", 1, "SystemExit")
    assert row["error_message"] == "the job called sys.exit('no config')"


async def test_logging_that_a_job_configures_is_as_before_after_its_run(
    context: WorkerContext,
) -> None:
    @job
    async def own(run: Run) -> None:
        del run
        logging.disable(logging.CRITICAL)
        raise ValueError("closed")

    ctx = {**worker_harness.ctx_of(context), "logging": log.LoggingState.now()}
    await registry.arq_task(own).coroutine(ctx)

    assert logging.root.manager.disable == logging.NOTSET


async def test_a_part_that_failed_makes_the_run_a_partial_failure(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> dict[str, int]:
        run.part_failed("lagos", ValueError("closed"))
        return {"stored": 1}

    row = await performed(context, own)

    assert (row["status"], row["error_message"]) == ("partial_failure", "lagos: closed")
    assert row["stats"] == {"stored": 1, "parts_failed": 1}


async def test_of_many_parts_that_failed_each_is_logged_and_the_first_five_are_in_the_error(
    context: WorkerContext,
) -> None:
    @job
    async def own(run: Run) -> None:
        for number in range(7):
            run.part_failed(f"part {number}", "closed")

    with capture_logs() as logs:
        row = await performed(context, own)

    failed = [line["part"] for line in logs if line["event"] == "part.failed"]
    assert failed == [f"part {number}" for number in range(7)]
    assert row["error_message"] == (
        "; ".join(f"part {number}: closed" for number in range(5)) + "; and 2 more"
    )


async def test_the_end_of_the_progress_is_shown_at_once(context: WorkerContext) -> None:
    shown: list[int] = []

    @job
    async def own(run: Run) -> None:
        for done in (1, 2, 3):
            await run.progress(done, 3)
            stats = (await worker_harness.run_row(context.pool, run.id))["stats"]
            shown.append(stats["done"])

    await performed(context, own)

    assert shown == [1, 1, 3]


async def test_sources_without_storage_fail_with_what_to_declare(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        await run.collect([SportyBet(run.config.sportybet_url)])

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "ValueError")
    assert "@source" in row["error_message"]


async def test_a_run_that_collects_twice_has_the_outcome_of_all_its_sources(
    context: WorkerContext, standin: Standin
) -> None:
    @job(group=odds.GROUP)
    async def own(run: Run) -> None:
        first, second, _ = odds.GROUP.every_source(run.config)
        await run.collect([first])
        await run.collect([second])

    standin.fault("/sportybet", "status", status=404)

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("partial_failure", "http_status")
    assert row["stats"]["events_scraped"] == 30


async def test_a_function_of_arq_is_taken_as_it_is(context: WorkerContext) -> None:
    seen: dict[str, Any] = {}

    @job(name="as_before")
    async def own(ctx: dict[str, Any], count: int) -> str:
        seen.update(ctx)
        return "x" * count

    row = await performed(context, own, count=3)

    assert (row["status"], row["stats"]) == ("success", {"result": "xxx"})
    assert seen["redis"] is context.job_redis
    assert seen["job_try"] == 1
    assert {"job_id", "client", "clients", "run"} <= seen.keys()


async def test_the_client_waits_for_the_shared_limiter_and_counts(
    context: WorkerContext, shop: str
) -> None:
    @job(limits=FAST)
    async def own(run: Run) -> dict[str, int]:
        answer = await run.client.get(f"{shop}/prices")
        async with run.client.stream("GET", f"{shop}/prices") as response:
            size = len(await response.aread())
        return {"rows": len(answer.json()), "size": size}

    row = await performed(context, own)

    assert row["stats"] == {"rows": 1, "size": 30, "requests": 2}
    assert await context.redis.exists(f"rollcall:limit:{shop.removeprefix('http://')}")


async def test_a_pause_that_a_site_asked_for_holds_for_the_next_job_too(
    context: WorkerContext, shop: str
) -> None:
    @job(limits=FAST)
    async def own(run: Run, *, path: str) -> None:
        (await run.client.get(f"{shop}{path}")).raise_for_status()

    gone = await performed(context, own, path="/gone")
    busy = await performed(context, own, path="/busy")
    refused = await performed(context, own, path="/prices")

    assert [row["error_type"] for row in (gone, busy, refused)] == [
        "http_status", "http_status", "rate_limited",
    ]  # fmt: skip


async def test_what_a_session_holds_is_committed_when_the_job_returns_and_not_if_it_raises(
    context: WorkerContext,
) -> None:
    await tables.create_missing(context.pool, [Price])

    @job(tables=[Price])
    async def own(run: Run, *, sku: str, fails: bool = False) -> dict[str, int]:
        run.session.add(Price(sku=sku, price=Decimal("1.50")))
        await run.session.flush()
        if fails:
            raise ValueError("after the flush")
        found = await run.session.exec(select(Price).order_by(col(Price.sku)))
        return {"stored": len(found.all())}

    kept = await performed(context, own, sku="a")
    lost = await performed(context, own, sku="b", fails=True)

    assert (kept["status"], kept["stats"]) == ("success", {"stored": 1})
    assert (lost["status"], lost["error_type"]) == ("failure", "ValueError")
    assert [row[0] for row in await context.pool.fetch("SELECT sku FROM own_prices")] == ["a"]


async def test_a_run_that_another_attempt_has_taken_over_commits_nothing(
    context: WorkerContext,
) -> None:
    await tables.create_missing(context.pool, [Price])
    mine: list[bool] = []

    @job(tables=[Price])
    async def own(run: Run) -> None:
        run.session.add(Price(sku="late", price=Decimal(1)))
        mine.append(await run.still_mine())
        await context.pool.execute("UPDATE runs SET lease_epoch = lease_epoch + 1")
        mine.append(await run.still_mine())
        with pytest.raises(LeaseLost):
            await run.store("shop", [{"id": 1}], key="id")
        with pytest.raises(LeaseLost):
            await run.progress(1, 2)

    row = await performed(context, own)

    assert mine == [True, False]
    assert row["status"] == "running"  # the other attempt's
    assert await context.pool.fetchval("SELECT count(*) FROM own_prices") == 0
    assert await context.pool.fetchval("SELECT count(*) FROM items") == 0


async def test_rows_are_stored_as_items_and_counted_and_progress_is_seen_meanwhile(
    context: WorkerContext,
) -> None:
    between: list[dict[str, Any]] = []

    @job
    async def own(run: Run) -> None:
        await run.store("shop", [{"id": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)}], key="id")
        await run.store("shop", [{"id": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)}], key="id")
        await run.progress(10, 100, errors=2)
        between.append((await worker_harness.run_row(context.pool, run.id))["stats"])

    row = await performed(context, own)

    counts = {"inserted": 1, "changed": 0, "unchanged": 1, "records": 2}
    assert between == [{**counts, "done": 10, "of": 100, "errors": 2}]
    assert row["stats"] == between[0]
    assert await context.pool.fetchval("SELECT data ->> 'at' FROM items") == "2026-01-01T00:00:00Z"


async def test_a_run_is_deferred_when_its_job_says_so_and_then_goes_on(
    context: WorkerContext,
) -> None:
    @job(every=7 * 86_400, misfire_grace=7 * 86_400)  # the next tick is not near
    async def own(run: Run) -> dict[str, int]:
        if run.attempt == 1:
            raise run.defer(60, "closed for lunch")
        return {"stored": 1}

    run_id = await scheduled(context, own)
    await worker_harness.perform(context, run_id, job=own)
    waiting = await worker_harness.run_row(context.pool, run_id)
    await due_again(context)
    await worker_harness.perform(context, run_id, job=own)
    done = await worker_harness.run_row(context.pool, run_id)

    assert (waiting["status"], waiting["deferrals"]) == ("queued", 1)
    assert waiting["not_before"] > context.clock() + timedelta(seconds=50)
    assert (done["status"], done["stats"]) == ("success", {"stored": 1})


async def test_a_deferral_beyond_the_next_tick_fails_and_arqs_retry_is_one_too(
    context: WorkerContext,
) -> None:
    @job(every=3600, misfire_grace=3600)
    async def own(run: Run) -> None:
        raise run.defer(timedelta(days=1), "tomorrow")

    @job
    async def of_arq(ctx: dict[str, Any]) -> None:
        del ctx
        raise arq.Retry(defer=30)

    run_id = await scheduled(context, own)
    await worker_harness.perform(context, run_id, job=own)
    refused = await worker_harness.run_row(context.pool, run_id)

    assert (refused["status"], refused["error_type"]) == ("failure", "not_deferred")
    assert "tomorrow" in refused["error_message"]
    assert (await performed(context, of_arq))["status"] == "queued"


async def test_a_failed_run_is_repeated_as_often_as_its_job_says(context: WorkerContext) -> None:
    @job(retries=2, backoff=20)
    async def own(run: Run) -> None:
        raise ValueError(f"attempt {run.attempt}")

    run_id = await worker_harness.perform(context, job=own)
    rows = [await worker_harness.run_row(context.pool, run_id)]
    for _ in range(2):
        await due_again(context)
        await worker_harness.perform(context, run_id, job=own)
        rows.append(await worker_harness.run_row(context.pool, run_id))
    events = await context.pool.fetch("SELECT event, attempt, detail FROM run_events ORDER BY id")

    assert [(row["status"], row["retries"]) for row in rows] == [
        ("queued", 1), ("queued", 2), ("failure", 2),
    ]  # fmt: skip
    waits = [row["not_before"] - row["queued_at"] for row in rows[:2]]
    assert waits == [timedelta(seconds=20), timedelta(seconds=40)]
    assert rows[2]["error_message"] == "attempt 3"
    assert [(row["event"], row["attempt"]) for row in events] == [
        ("started", 1), ("retried", 1), ("started", 2), ("retried", 2), ("started", 3),
        ("finished", 3),
    ]  # fmt: skip
    assert "failure: ValueError: attempt 1" in events[1]["detail"]


async def test_a_retry_that_would_come_after_the_next_tick_is_left_to_that_tick(
    context: WorkerContext,
) -> None:
    @job(every=3600, misfire_grace=3600, retries=3, backoff=7200)
    async def own(run: Run) -> None:
        raise ValueError(str(run.tick))

    run_id = await scheduled(context, own)
    await worker_harness.perform(context, run_id, job=own)

    assert (await worker_harness.run_row(context.pool, run_id))["status"] == "failure"


def own_source(url: str, *, table: bool) -> Job:
    """The job of a source that reads the shop, into a table of its own or as items."""
    options: dict[str, Any] = {"table": Price} if table else {}

    @source(**options)
    class Shop:
        """One page, one partition; `sku`: what the row is called."""

        name = "own_shop"
        limits = FAST

        def __init__(self, sku: str = "a") -> None:
            self.sku = sku

        def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
            yield from ()
            return (Partition("all"),)

        def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
            del part
            rows = json.loads((yield SourceRequest(f"{url}/prices?{uuid4()}")).body)
            return ListingEnd("the only page", len(rows))

        def parse(self, raw: RawPage) -> Iterable[Any]:
            for row in json.loads(raw.body):
                if table:
                    yield Price(sku=self.sku, price=Decimal(row["price"]))
                else:
                    yield Item("own_shop", self.sku, row)

    return vars(Shop)[JOB_OF_CLASS]


@pytest.mark.parametrize("table", [True, False])
async def test_a_source_of_ones_own_stores_into_its_table_or_as_items(
    context: WorkerContext, shop: str, table: bool
) -> None:
    own = own_source(shop, table=table)
    await tables.create_missing(context.pool, own.tables)
    context.fetchers["own_shop"] = context.fetchers["betpawa"]

    first = await performed(context, own)
    same = await performed(context, own)
    other = await performed(context, own, sku="b")

    stored = await context.pool.fetchval(
        "SELECT count(*) FROM own_prices" if table else "SELECT count(*) FROM items"
    )
    assert stored == 2
    for row, inserted in ((first, 1), (same, 0), (other, 1)):
        assert row["status"] == RunStatus.SUCCESS
        assert (row["stats"]["records"], row["stats"]["inserted"]) == (1, inserted)


async def test_a_table_of_ones_own_is_created_once_and_a_row_that_is_as_it_was_is_not_written(
    context: WorkerContext, shop: str
) -> None:
    own = own_source(shop, table=True)
    context.fetchers["own_shop"] = context.fetchers["betpawa"]
    for _ in range(2):
        await tables.create_missing(context.pool, own.tables)
    await performed(context, own)
    before = await context.pool.fetchval("SELECT xmin::text FROM own_prices")

    same = await performed(context, own)

    assert await context.pool.fetchval("SELECT xmin::text FROM own_prices") == before
    assert same["stats"]["unchanged"] == 1
