"""What a job hands to its run, or returns, that cannot be recorded: refused with the place."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.context import WorkerContext
from app.core.redact import redactor
from app.jobs import Job, Run, job
from tests import worker_harness

UNSTORABLE = "has a NUL, half a character, or a number that JSON does not have"


async def performed(context: WorkerContext, own: Job) -> dict[str, Any]:
    run_id = await worker_harness.perform(context, job=own)
    return await worker_harness.run_row(context.pool, run_id)


async def price() -> int:
    return 3


PENDING: list[Callable[[], object]] = [
    price,
    lambda: price,
    lambda: (number for number in range(3)),
    lambda: map(str, range(3)),
    lambda: asyncio.get_running_loop().create_future(),
]


@pytest.mark.parametrize("pending", PENDING)
@pytest.mark.parametrize("within", [False, True])
async def test_what_has_yet_to_be_executed_is_no_result(
    context: WorkerContext, pending: Callable[[], object], within: bool
) -> None:
    @job
    async def own(run: Run) -> object:
        del run
        return {"stored": [pending()]} if within else pending()

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert "stored" in row["error_message"] or "result" in row["error_message"]
    assert "was not awaited, called or consumed" in row["error_message"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "a\0b", "a\ud800b"])
async def test_progress_that_cannot_be_stored_fails_with_its_name(
    context: WorkerContext, value: Any
) -> None:
    @job
    async def own(run: Run) -> None:
        await run.progress(1, 9)
        await run.progress(2, 9, pages=value)

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert row["error_message"] == f"run.progress was given 'pages', which {UNSTORABLE}"
    assert row["stats"] == {"done": 1, "of": 9}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize("place", ["name", "the key"])
async def test_rows_that_cannot_be_stored_fail_with_the_row_and_its_member(
    context: WorkerContext, text: str, place: str
) -> None:
    @job
    async def own(run: Run) -> None:
        good = {"sku": "good", "name": "x", "price": float("nan")}
        bad = {"sku": text, "name": "x"} if place == "the key" else {"sku": "bad", "name": text}
        await run.store("shop", [good, bad], key="sku")

    row = await performed(context, own)

    key = text if place == "the key" else "bad"
    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert row["error_message"].endswith(UNSTORABLE)
    assert f"run.store('shop'): {place!r} of the row {key!r}" in row["error_message"]


async def test_a_key_that_is_too_long_is_named(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        key = "".join(f"{number:x}" for number in range(10_000))
        await run.store("shop", [{"sku": key}], key="sku")

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert "run.store('shop'): the key of the row '0123" in row["error_message"]
    assert "is too long" in row["error_message"]


def sku_of(row: dict[str, Any]) -> str:
    return row.get("sku", "")


@pytest.mark.parametrize("key", ["sku", sku_of], ids=["member", "function"])
@pytest.mark.parametrize("row", [{"sku": None}, {"sku": ""}, {}], ids=["null", "empty", "missing"])
async def test_a_row_without_a_key_is_shown_and_none_is_stored(
    context: WorkerContext, row: dict[str, Any], key: Any
) -> None:
    @job
    async def own(run: Run) -> None:
        await run.store("shop", [{"sku": "a"}, {**row, "name": "Desk"}], key=key)

    ended = await performed(context, own)

    assert (ended["status"], ended["error_type"]) == ("failure", "BadResult")
    assert "gives no key for the row" in ended["error_message"]
    assert "'name': 'Desk'" in ended["error_message"]
    assert await context.pool.fetchval("SELECT count(*) FROM items") == 0


async def test_a_row_that_is_too_large_is_named_and_not_tried_again(
    context: WorkerContext,
) -> None:
    @job
    async def own(run: Run) -> None:
        await run.store("shop", [{"sku": "a", "text": "x" * 100_000_000}], key="sku")

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert "the row 'a' of 'shop' has 100,000,0" in row["error_message"]


async def test_a_row_with_what_has_yet_to_be_executed_is_not_stored(
    context: WorkerContext,
) -> None:
    @job
    async def own(run: Run) -> None:
        await run.store("shop", [{"sku": "a", "price": price()}], key="sku")

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert "'price' of the row 'a'" in row["error_message"]
    assert await context.pool.fetchval("SELECT count(*) FROM items") == 0


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_a_part_may_fail_with_an_exception_without_text(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        run.part_failed("lagos", Unprintable())

    row = await performed(context, own)

    assert row["status"] == "partial_failure"
    assert row["error_message"] == "lagos: Unprintable, which has no text"


async def test_an_error_of_50_mb_is_recorded_without_blocking_the_worker_for_long(
    context: WorkerContext,
) -> None:
    text = "no price in https://shop.example/?q=1&token=sesame " * 1_000_000

    @job
    async def own(run: Run) -> None:
        run.part_failed("lagos", text)
        raise ValueError(text)

    started = time.process_time()
    row = await performed(context, own)
    took = time.process_time() - started

    assert row["status"] == "failure"
    assert row["error_message"].startswith("no price in https://shop.example/")
    assert "sesame" not in row["error_message"]
    assert took < 5


def test_of_a_long_traceback_the_beginning_and_the_end_are_kept() -> None:
    event = {"exception": f"first\n{'x' * 1_000_000} token=sesame\nlast"}

    text = str(redactor()(event)["exception"])

    assert text.startswith("first\n")
    assert text.endswith("token=***\nlast")
    assert len(text) < 30_000
