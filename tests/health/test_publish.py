"""What Postgres knows, as health tells it: after runs, skips, pauses, and of all collections."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from arq.connections import ArqRedis

from app.core import zone_data
from app.core.enums import HealthReason, RunStatus, TickReason
from app.health import accounting, publish
from app.health.facts import JobFacts, WorkerFacts
from app.health.history import HISTORY_RUNS
from app.health.judge import judge
from app.health.keys import delete_worker, read_collections, read_jobs, write_worker
from app.ledger.edit import DeclaredSchedule
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store import tenancy
from app.store.db import Pool
from app.store.reports.alerts import HealthFlip, record_flips
from app.store.runs import progress
from app.store.runs.attempt_rows import RunEnding
from app.store.runs.progress import Counts
from app.store.schedules import zones
from tests import single_run
from tests.clock import SettableClock
from tests.ledger.harness import KEY, MINUTE, Book, every
from tests.published import publish_all_jobs


async def published(pool: Pool, redis: ArqRedis) -> JobFacts:
    await publish.publish_job(pool, redis, KEY)
    return (await read_jobs(redis))[KEY]


async def finish(book: Book, status: RunStatus, error: str | None = None, **stats: str) -> None:
    (queued,) = await book.ring(after=MINUTE)
    ending = RunEnding(status, book.clock() + timedelta(seconds=2), stats, error, error)
    assert await single_run.finish(book.pool, await book.claim(queued), ending)


async def test_runs_and_their_ends_are_told(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    await finish(book, RunStatus.SUCCESS)
    await finish(book, RunStatus.FAILURE, "local_network")
    await finish(book, RunStatus.FAILURE, "http_status")
    failed_at = clock() + timedelta(seconds=2)
    await finish(book, RunStatus.TIMED_OUT)

    facts = await published(pool, redis)

    assert facts.history == (RunStatus.TIMED_OUT, RunStatus.FAILURE, None, RunStatus.SUCCESS)
    assert (facts.consecutive_failures, facts.failing_since) == (2, failed_at)
    assert (facts.succeeded, facts.finished, facts.ran, facts.due) == (1, 4, 4, 4)
    assert (facts.grace_seconds, facts.late_by) == (60, 0)
    assert facts.last_success == clock() - 3 * MINUTE + timedelta(seconds=2)


async def run_of_sources(
    book: Book, ended: dict[str, tuple[RunStatus, int]], *, run: RunStatus, error: str | None = None
) -> None:
    """Record a run whose sources ended with a status and so many new records."""
    (queued,) = await book.ring(after=MINUTE)
    claimed = await book.claim(queued)
    for name, (status, inserted) in ended.items():
        row = replace(
            await progress.begin(book.pool, claimed, name),
            status=status,
            counts=Counts(records=inserted, inserted=inserted),
            error_kind=error if status is RunStatus.FAILURE else None,
            error_message="no such host" if status is RunStatus.FAILURE else None,
        )
        async with tenancy.transaction(book.pool, claimed.org_id) as connection:
            await progress.write(connection, claimed, row, {})
    ending = RunEnding(run, book.clock() + timedelta(seconds=2), {}, None, None)
    assert await single_run.finish(book.pool, claimed, ending)


async def test_each_source_of_a_job_is_told_by_itself(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    good, dead = (RunStatus.SUCCESS, 5), (RunStatus.FAILURE, 0)
    partial = RunStatus.PARTIAL_FAILURE
    await run_of_sources(book, {"gone": dead, "one": good, "two": good}, run=partial)
    success_at = clock() + timedelta(seconds=2)
    for _ in range(3):
        await run_of_sources(book, {"one": good, "two": dead}, run=partial, error="network")

    facts = await published(pool, redis)
    await run_of_sources(book, {"one": good, "two": dead}, run=partial, error="local_network")
    ours = await published(pool, redis)

    one, two = facts.sources
    assert (one.source, one.failures, one.last_new) == ("one", 0, facts.last_run)
    assert (two.source, two.failures, two.last_new) == ("two", 3, success_at)
    assert two.failing_since == success_at + MINUTE
    assert (facts.succeeded, facts.finished, facts.success_rate) == (0, 4, 0)
    assert judge(facts, clock()).text == "unhealthy (source_failing: two)"
    assert (ours.sources[1].history[0], ours.sources[1].failures) == (None, 3)


async def test_a_source_that_is_dead_for_long_is_so_since_the_instant_that_was_alerted(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    good, dead = (RunStatus.SUCCESS, 5), (RunStatus.FAILURE, 0)
    partial = RunStatus.PARTIAL_FAILURE
    await run_of_sources(book, {"one": good, "two": good}, run=RunStatus.SUCCESS)
    died_at = clock() + MINUTE + timedelta(seconds=2)
    for _ in range(3):
        await run_of_sources(book, {"one": good, "two": dead}, run=partial)
    found = judge(await published(pool, redis), clock())
    flip = HealthFlip(KEY, found.status, found.reason_text, True, died_at, "")
    async with pool.acquire() as connection:
        await record_flips(connection, [flip], clock())
    for _ in range(HISTORY_RUNS):
        await run_of_sources(book, {"one": good, "two": dead}, run=partial)

    lasting = judge(await published(pool, redis), clock())

    assert (found.since, lasting.since) == (died_at, died_at)


async def test_a_source_at_work_when_its_run_timed_out_has_failed(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    for _ in range(3):
        await run_of_sources(
            book,
            {"one": (RunStatus.SUCCESS, 1), "two": (RunStatus.RUNNING, 0)},
            run=RunStatus.TIMED_OUT,
        )

    _, two = (await published(pool, redis)).sources

    assert two.history == (RunStatus.TIMED_OUT,) * 3


async def test_ticks_that_overlap_are_a_streak_and_a_broken_expectation_is_read(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    await finish(book, RunStatus.SUCCESS, breach="drift")
    drifted = await published(pool, redis)
    await book.ring(after=MINUTE)
    for _ in range(3):
        await book.ring(after=MINUTE)

    facts = await published(pool, redis)

    assert judge(drifted, clock() - 4 * MINUTE).reason is HealthReason.DRIFT
    assert (facts.skip_streak, facts.skip_reason) == (3, TickReason.OVERLAP)
    assert facts.skipping_since == clock() - 2 * MINUTE
    assert (facts.ran, facts.due) == (2, 5)


async def test_a_job_that_was_resumed_is_not_overdue_for_the_time_it_was_paused(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    await finish(book, RunStatus.SUCCESS)
    await book.pause()
    clock.pass_by(hours=5)
    await book.resume()

    facts = await published(pool, redis)

    assert facts.rested_until == clock()
    assert judge(facts, clock()).reason is None
    assert judge(facts, clock() + 3 * MINUTE).reason is HealthReason.OVERDUE


async def test_collections_are_counted_together_and_have_no_key_of_their_own(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    for number, due in enumerate((clock() + MINUTE, clock() + MINUTE, clock() - 2 * MINUTE)):
        org = uuid4()
        await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, $2)", org, str(org))
        await pool.execute(
            "INSERT INTO schedules (key, job, org_id, spec, policies, params, version, enabled,"
            " effective_from, evaluated_through, next_tick_at, due_at, paused_at)"
            " VALUES ($1, 'collection', $2, '{}', '{\"misfire_grace_seconds\": 60}', '{}', 1, true,"
            " $3, $3, $4, $4, $5)",
            f"collection:{org}", org, clock(), due, clock() if number == 0 else None,
        )  # fmt: skip

    await publish.publish_collections(pool, redis, clock())
    await publish_all_jobs(pool, redis)
    facts = await read_collections(redis)

    assert facts is not None
    assert (facts.paused, facts.not_started, facts.overdue, facts.unhealthy) == (1, 1, 1, 1)
    assert await read_jobs(redis) == {}


async def collected(pool: Pool, at: datetime, statuses: list[RunStatus], source: RunStatus) -> None:
    """A collection whose runs ended so, newest first, each with one source that ended so."""
    org = uuid4()
    await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, $2)", org, str(org))
    schedule: int = await pool.fetchval(
        "INSERT INTO schedules (key, job, org_id, spec, policies, params, version, enabled,"
        " effective_from, evaluated_through, next_tick_at, due_at)"
        " VALUES ($1, 'collection', $2, '{}', '{}', '{}', 1, true, $3, $3, $4, $4) RETURNING id",
        f"collection:{org}", org, at, at + MINUTE,
    )  # fmt: skip
    for number, status in enumerate(statuses):
        run = uuid4()
        await pool.execute(
            "INSERT INTO runs (execution_id, job, schedule_id, trigger, params, status, stats,"
            " queued_at, completed_at, created_at, org_id, attempt, losses, max_attempts,"
            " timeout_seconds, lease_epoch)"
            " VALUES ($1, 'collection', $2, 'manual', '{}', $3, '{}', $4, $4, $4, $5,"
            " 1, 0, 3, 240, 1)",
            run, schedule, status, at - number * MINUTE, org,
        )  # fmt: skip
        await pool.execute(
            "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
            " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
            " throttled_ms, duration_seconds)"
            " VALUES ($1, 'dead', $2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
            run, source,
        )  # fmt: skip


async def test_a_collection_is_failing_by_its_sources_and_if_it_never_brought_anything(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    partial, failed = RunStatus.PARTIAL_FAILURE, RunStatus.FAILURE
    await collected(pool, clock(), [partial] * 3, failed)
    await collected(pool, clock(), [failed], failed)
    await collected(pool, clock(), [partial] * 3, partial)
    await collected(pool, clock(), [partial] * 2, failed)
    await collected(pool, clock(), [failed, RunStatus.SUCCESS], failed)

    await publish.publish_collections(pool, redis, clock())
    facts = await read_collections(redis)

    assert facts is not None
    assert (facts.failing, facts.healthy) == (2, 3)


async def test_a_disabled_organisations_collection_is_paused_however_its_runs_ended(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    org = uuid4()
    await pool.execute(
        "INSERT INTO organizations (id, name, disabled_at) VALUES ($1, 'shut', $2)", org, clock()
    )
    await pool.execute(
        "INSERT INTO schedules (key, job, org_id, spec, policies, params, version, enabled,"
        " effective_from, evaluated_through, next_tick_at, due_at)"
        " VALUES ($1, 'collection', $2, '{}', '{\"misfire_grace_seconds\": 60}', '{}', 1, true,"
        " $3, $3, $4, $4)",
        f"collection:{org}", org, clock(), clock() - 2 * MINUTE,
    )  # fmt: skip

    await publish.publish_collections(pool, redis, clock())
    facts = await read_collections(redis)

    assert facts is not None
    assert (facts.paused, facts.overdue, facts.unhealthy) == (1, 0, 0)


async def test_a_tick_without_an_outcome_is_found_and_a_day_with_gaps_and_edits_is_whole(
    pool: Pool, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    await book.ring_each(3)
    clock.pass_by(hours=30)
    await book.ring()
    await book.edit(every(2))
    await book.ring(after=timedelta(hours=1))
    whole = await accounting.unaccounted(pool, clock())

    await pool.execute("UPDATE tick_gaps SET last_tick = last_tick - interval '1 minute'")

    assert whole == 0
    assert await accounting.unaccounted(pool, clock()) >= 1


async def test_the_next_run_is_the_first_tick_that_is_not_excluded(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(10, exclude=Exclusions.parse(["12:00-13:30"])))

    assert (await published(pool, redis)).next_run == clock() + timedelta(minutes=90)
    assert (await book.row())["next_tick_at"] == clock() + timedelta(minutes=10)

    await book.edit(every(10, exclude=Exclusions.parse([], end="2026-09-05T12:05Z")))
    assert (await published(pool, redis)).next_run is None


async def test_a_job_is_overdue_by_the_zone_data_of_its_schedule(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    data = zone_data.wheel_data("America/Anchorage")
    await pool.execute(zones.SAVE, "America/Vancouver", zone_data.stamp_of("9001a", data), data)
    schedule = Schedule.cron("0 9 * * *", "America/Vancouver", name=KEY)
    await Book(pool, clock).open(DeclaredSchedule(KEY, "job", schedule, Policies()))
    await pool.execute("UPDATE schedules SET created_at = $1", clock())

    facts = await published(pool, redis)

    nine = clock().replace(hour=17)
    assert facts.next_run == nine
    assert facts.silent_after == nine + timedelta(seconds=60 + 240)


async def test_a_job_that_no_live_worker_declares_is_orphaned_unless_one_does_not_say(
    pool: Pool, redis: ArqRedis, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    seen: list[HealthReason | None] = []
    for declared in ({"a": (KEY,), "b": ()}, {"a": ()}, {"a": (), "b": None}):
        for name, jobs in declared.items():
            await write_worker(redis, name, 60, WorkerFacts(seen_at=clock(), jobs=jobs))
        if len(declared) == 1:
            await delete_worker(redis, "b")
        await publish_all_jobs(pool, redis)
        seen.append(judge((await read_jobs(redis))[KEY], clock()).reason)

    assert seen == [HealthReason.NEVER_RAN, HealthReason.ORPHANED, HealthReason.NEVER_RAN]
