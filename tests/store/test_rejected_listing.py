"""The rejected records of a run whose pages were unchanged are those of the run that read them."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from app.core.enums import RunStatus
from app.core.records import Rejected
from app.store import tenancy
from app.store.db import Pool
from app.store.runs import listing, progress
from app.store.runs.attempt_rows import RunEnding
from app.store.runs.listing import RejectedFilter
from app.store.runs.progress import Counts
from tests import single_run
from tests.clock import SettableClock
from tests.ledger.harness import MINUTE, Book, every


async def run_with(book: Book, counted: int, *reasons: str) -> UUID:
    """A run of one source that counts `counted` rejected records, and stores these."""
    (queued,) = await book.ring(after=MINUTE)
    claimed = await book.claim(queued)
    begun = await progress.begin(book.pool, claimed, "shop")
    row = replace(begun, status=RunStatus.SUCCESS, counts=Counts(rejected=counted))
    async with tenancy.transaction(book.pool, claimed.org_id) as connection:
        await progress.write(connection, claimed, row, {})
    for reason in reasons:
        await book.pool.execute(
            "INSERT INTO rejected_records (execution_id, source, partition, page, reason, data,"
            " created_at) VALUES ($1, 'shop', 'p', 1, $2, 'raw', $3)",
            claimed.run_id, reason, book.clock(),
        )  # fmt: skip
    await book.pool.execute(
        "UPDATE runs SET created_at = $2 WHERE execution_id = $1", claimed.run_id, book.clock()
    )
    ending = RunEnding(RunStatus.SUCCESS, book.clock() + timedelta(seconds=2), {}, None, None)
    assert await single_run.finish(book.pool, claimed, ending)
    return claimed.run_id


async def test_an_unchanged_page_lists_what_the_run_that_read_it_rejected(
    pool: Pool, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    older = await run_with(book, 1, "older")
    read = await run_with(book, 2, "no price", "no name")
    unchanged = await run_with(book, 2)
    clean = await run_with(book, 0)

    async def listed(run: UUID) -> list[tuple[UUID, str]]:
        rows, count = await listing.rejected(pool, RejectedFilter(run_id=run), 10)
        assert count == len(rows)
        return [(row["execution_id"], row["reason"]) for row in rows]

    assert await listed(older) == [(older, "older")]
    assert await listed(read) == [(read, "no price"), (read, "no name")]
    assert await listed(unchanged) == [(read, "no price"), (read, "no name")]
    assert await listed(clean) == []


async def test_a_reason_with_a_character_that_postgres_refuses_is_stored_without_it(
    pool: Pool, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    (queued,) = await book.ring(after=MINUTE)
    claimed, rejected = await book.claim(queued), Rejected("no price: a\0b", b"raw", None)

    async with tenancy.transaction(pool, None) as connection:
        await progress.save_rejected(connection, claimed, ("shop", "p", 1), [rejected])

    assert await pool.fetchval("SELECT reason FROM rejected_records") == "no price: a b"
