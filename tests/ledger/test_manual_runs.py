"""Runs that people request and cancel: their parameters, and what is recorded of who did it."""

from typing import Any
from uuid import uuid4

from app.ledger import manual_runs
from app.ledger.manual_runs import Act, WantedRun
from app.scheduling.policies import Policies
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from tests.ledger.harness import KEY, Book, every
from tests.worker_harness import run_row


async def request(book: Book, **wanted: Any) -> dict[str, Any]:
    await book.open(every(60))
    await book.pool.execute("UPDATE schedules SET params = $1", {"city": "Lagos", "pages": 3})
    run = WantedRun(KEY, KEY, {"pages": 1}, **wanted)
    await manual_runs.request(book.pool, run, Act("ada", book.clock()), Policies())
    return (await run_row(book.pool, run.run_id))["params"]


async def test_what_was_asked_for_takes_precedence_over_the_schedule(book: Book) -> None:
    assert await request(book) == {"city": "Lagos", "pages": 1}


async def test_a_retry_has_the_parameters_of_its_run_and_no_others(book: Book) -> None:
    assert await request(book, retry_of=uuid4()) == {"pages": 1}


async def test_a_cancelled_run_says_by_whom_and_why(book: Book) -> None:
    await request(book)
    found = await listing.runs(book.pool, RunFilter(), 1)

    act = Act("ada", book.clock(), "the wrong city")
    (run_id,) = await manual_runs.cancel(book.pool, found, act)

    error = (await run_row(book.pool, run_id))["error_message"]
    assert error == "cancelled by ada: the wrong city"
