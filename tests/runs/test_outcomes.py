"""However an attempt ends, its run has exactly one outcome."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from app import migrations
from app.core.enums import RunStatus
from app.core.errors import Blocked, LeaseLost
from app.runs import attempts
from app.runs.attempts import AttemptOutcome
from app.runs.leases import Leases
from app.store.db import Pool, open_pool
from app.store.runs import run_rows as store
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.run_rows import RunRequest
from tests.clock import SettableClock
from tests.runs.harness import LEASE, Desk, UnheardPool
from tests.servers import PrivatePostgres
from tests.wait import until
from workers import lifecycle

Body = Callable[[AttemptOutcome], Awaitable[None]]


async def attempted(desk: Desk, claimed: ClaimedRun, body: Body) -> AttemptOutcome:
    async with attempts.attempt(desk.leases(), claimed) as outcome:
        await body(outcome)
    return outcome


async def finished(desk: Desk, claimed: ClaimedRun) -> int:
    return (await desk.events(claimed)).count(("finished", claimed.attempt))


async def test_a_body_that_says_how_it_ended_is_believed(desk: Desk) -> None:
    claimed = await desk.begin()
    desk.clock.pass_by(seconds=3)

    async def body(outcome: AttemptOutcome) -> None:
        outcome.status = RunStatus.PARTIAL_FAILURE
        outcome.stats = {"pages": 4}
        outcome.error_type, outcome.error_message = "blocked", "turned away"

    await attempted(desk, claimed, body)

    row = await desk.row(claimed)
    assert (row["status"], row["stats"]) == ("partial_failure", {"pages": 4})
    assert (row["error_type"], row["error_message"]) == ("blocked", "turned away")
    assert (row["duration_seconds"], row["lease_expires_at"]) == (3, None)
    assert await finished(desk, claimed) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [(RuntimeError("odd"), "RuntimeError"), (Blocked("odd"), "blocked")],
    ids=["unexpected", "failure"],
)
async def test_a_body_that_raises_is_a_failure_and_the_error_goes_no_further(
    desk: Desk, error: Exception, kind: str
) -> None:
    claimed = await desk.begin()

    async def body(_: AttemptOutcome) -> None:
        raise error

    await attempted(desk, claimed, body)

    row = await desk.row(claimed)
    assert (row["status"], row["error_type"], row["error_message"]) == ("failure", kind, "odd")
    assert await finished(desk, claimed) == 1


async def test_a_body_that_takes_too_long_timed_out(desk: Desk) -> None:
    claimed = await desk.begin(timeout=0.05)

    async def body(_: AttemptOutcome) -> None:
        await asyncio.Event().wait()

    await attempted(desk, claimed, body)

    row = await desk.row(claimed)
    assert (row["status"], row["error_message"]) == ("timed_out", "took longer than 0.05 s")
    assert await finished(desk, claimed) == 1


async def test_a_timeout_of_something_within_the_body_is_no_timeout_of_the_run(
    desk: Desk,
) -> None:
    claimed = await desk.begin()

    async def body(_: AttemptOutcome) -> None:
        raise TimeoutError("a statement took too long")

    await attempted(desk, claimed, body)

    row = await desk.row(claimed)
    assert (row["status"], row["error_type"]) == ("failure", "TimeoutError")
    assert row["error_message"] == "a statement took too long"


async def test_a_body_that_is_cancelled_hands_its_run_back(desk: Desk) -> None:
    claimed = await desk.begin()
    begun = asyncio.Event()

    async def body(outcome: AttemptOutcome) -> None:
        outcome.status = RunStatus.SUCCESS  # said too early
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(attempted(desk, claimed, body))
    await begun.wait()
    task.cancel()
    outcome = await task

    assert outcome.requeued == store.QueuedRun(claimed.run_id, "job", 2)
    assert task.cancelling() == 0
    assert (await desk.row(claimed))["status"] == "queued"
    assert await desk.events(claimed) == [("started", 1), ("cancelled", 1)]


async def test_a_body_cut_off_from_postgres_hands_its_run_back(desk: Desk) -> None:
    claimed = await desk.begin(max_attempts=1)

    async def body(_: AttemptOutcome) -> None:
        await desk.pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    outcome = await attempted(desk, claimed, body)

    assert outcome.requeued == store.QueuedRun(claimed.run_id, "job", 2)
    assert (await desk.row(claimed))["losses"] == 0
    detail = await desk.pool.fetchval("SELECT detail FROM run_events WHERE event = 'cancelled'")
    assert "Postgres was unavailable" in detail


async def test_a_body_that_meets_a_standby_hands_its_run_back(desk: Desk) -> None:
    claimed = await desk.begin(max_attempts=1)

    async def body(_: AttemptOutcome) -> None:
        async with desk.pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute("DELETE FROM runs")

    outcome = await attempted(desk, claimed, body)

    assert outcome.requeued == store.QueuedRun(claimed.run_id, "job", 2)
    assert (await desk.row(claimed))["losses"] == 0


@pytest.mark.parametrize("stops", [False, True], ids=["heartbeat", "stop"])
@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.CANCELLED])
async def test_an_outcome_that_postgres_did_not_take_is_recorded_when_it_does(
    desk: Desk, status: RunStatus, *, stops: bool
) -> None:
    claimed, leases = await desk.begin(), desk.leases()
    await desk.pool.execute("ALTER TABLE runs RENAME TO runs_of_primary")
    await desk.pool.execute("""
        CREATE VIEW runs AS SELECT * FROM runs_of_primary;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          RAISE 'read-only' USING ERRCODE = 'read_only_sql_transaction';
        END $$;
        CREATE TRIGGER refuse INSTEAD OF UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    try:
        async with attempts.attempt(leases, claimed) as outcome:
            outcome.status = status
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await leases.record_late()
    finally:
        await desk.pool.execute("DROP FUNCTION refuse CASCADE; DROP VIEW runs")
        await desk.pool.execute("ALTER TABLE runs_of_primary RENAME TO runs")
    before = await desk.row(claimed)

    if stops:
        await lifecycle.shutdown({"leases": leases})
    else:
        await leases.record_late()

    row = await desk.row(claimed)
    recorded = "success" if status is RunStatus.SUCCESS else "queued"
    assert (before["status"], row["status"], row["losses"]) == ("running", recorded, 0)
    assert leases.unrecorded == {}


def read_nothing() -> None:
    Path("there-is-no-such-file").read_text()


def refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        socket.create_connection(closed.getsockname())


@pytest.mark.parametrize("broken", [read_nothing, refused])
async def test_a_file_or_socket_of_the_body_is_not_taken_for_postgres(
    desk: Desk, broken: Callable[[], None]
) -> None:
    claimed = await desk.begin()

    async def body(_: AttemptOutcome) -> None:
        broken()

    await attempted(desk, claimed, body)

    row = await desk.row(claimed)
    assert row["status"] == "failure"
    assert row["error_type"] in {"FileNotFoundError", "ConnectionRefusedError"}


async def cancelled_while_postgres_answers(
    desk: Desk, lock: str, claiming: Coroutine[Any, Any, ClaimedRun | None]
) -> None:
    """Cancel a claim that waits for a lock of another session."""
    async with desk.pool.acquire() as blocker, blocker.transaction():
        await blocker.execute(lock)
        task = asyncio.create_task(claiming)
        await until(lambda: waits_for_a_lock(desk), what="the claim to wait")
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_claim_cancelled_while_postgres_answers_leaves_the_run_free(desk: Desk) -> None:
    run_id = await desk.ask()
    claiming = attempts.claim(desk.leases(), run_id, "w1")

    await cancelled_while_postgres_answers(desk, "SELECT 1 FROM runs FOR UPDATE", claiming)

    assert (await desk.row(run_id))["status"] == "queued"
    assert (await desk.again(run_id, "w2")).attempt == 2


async def test_a_start_cancelled_while_postgres_answers_leaves_the_run_free(desk: Desk) -> None:
    wanted = RunRequest(uuid4(), "job", {}, "test", 3, 240)
    starting = attempts.start(desk.leases(), wanted, "w1", "job")

    await cancelled_while_postgres_answers(desk, "LOCK TABLE runs IN EXCLUSIVE MODE", starting)

    assert (await desk.row(wanted.run_id))["status"] == "queued"
    assert (await desk.again(wanted.run_id, "w2")).attempt == 2


async def waits_for_a_lock(desk: Desk) -> bool:
    count: int = await desk.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return count > 0


async def test_a_second_cancellation_does_not_stop_the_recording(desk: Desk) -> None:
    claimed = await desk.begin()
    ending = asyncio.Event()

    async def body(outcome: AttemptOutcome) -> None:
        outcome.status = RunStatus.SUCCESS
        ending.set()

    async with desk.pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("SELECT 1 FROM runs FOR UPDATE")
        task = asyncio.create_task(attempted(desk, claimed, body))
        await ending.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
    await asyncio.wait([task])

    assert (await desk.row(claimed))["status"] == "success"
    assert await finished(desk, claimed) == 1


async def test_a_body_that_finds_itself_fenced_records_nothing(desk: Desk) -> None:
    claimed = await desk.begin()

    async def body(_: AttemptOutcome) -> None:
        raise LeaseLost(1)

    outcome = await attempted(desk, claimed, body)

    assert outcome.fenced
    assert await desk.events(claimed) == [("started", 1)]


async def test_an_attempt_that_another_took_over_records_nothing(desk: Desk) -> None:
    claimed = await desk.begin()

    async def body(outcome: AttemptOutcome) -> None:
        outcome.status = RunStatus.SUCCESS
        desk.clock.pass_by(seconds=LEASE + 1)
        await store.requeue_expired(desk.pool, desk.clock())
        await desk.again(claimed.run_id, "w2")

    outcome = await attempted(desk, claimed, body)

    assert outcome.fenced
    assert (await desk.row(claimed))["status"] == "running"
    assert (await desk.row(claimed))["worker"] == "w2"


async def test_a_run_cancelled_by_hand_stops_working_at_the_next_renewal(desk: Desk) -> None:
    claimed, other = await desk.begin(), await desk.begin()
    leases, begun = desk.leases(), asyncio.Semaphore(0)

    async def working(run: ClaimedRun) -> AttemptOutcome:
        async with attempts.attempt(leases, run) as outcome:
            begun.release()
            await asyncio.Event().wait()
        return outcome

    tasks = [asyncio.create_task(working(run)) for run in (claimed, other)]
    for _ in tasks:
        await begun.acquire()
    await store.cancel_open(desk.pool, [claimed.run_id], desk.clock(), by="ada")
    await leases.renew()
    outcome = await tasks[0]

    assert outcome.fenced
    assert not tasks[1].done()
    assert (await desk.row(claimed))["status"] == "cancelled"
    assert (await desk.row(claimed))["error_message"] == "ada"
    tasks[1].cancel()
    await tasks[1]
    assert leases.held == {}


async def test_an_outcome_that_meets_a_fault_of_the_machine_of_postgres_is_recorded_later(
    desk: Desk,
) -> None:
    claimed = await desk.begin()
    await desk.pool.execute("""
        CREATE SEQUENCE faults;
        CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('faults') = 1 THEN
            RAISE 'could not read block' USING ERRCODE = 'io_error';
          END IF;
          RETURN NEW;
        END $$;
        CREATE TRIGGER fail_once BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION fail_once();
    """)
    try:
        async with attempts.attempt(desk.leases(), claimed) as outcome:
            outcome.status = RunStatus.SUCCESS
    finally:
        await desk.pool.execute("DROP FUNCTION fail_once CASCADE; DROP SEQUENCE faults")

    row = await desk.row(claimed)
    assert (row["status"], row["attempt"]) == ("success", 1)


async def test_a_lease_is_let_go_when_the_attempt_ends(desk: Desk) -> None:
    claimed, leases = await desk.begin(), desk.leases()

    async with attempts.attempt(leases, claimed) as outcome:
        outcome.status = RunStatus.SUCCESS
        assert list(leases.held) == [claimed.run_id]

    assert leases.held == {}
    await leases.renew()


@pytest.mark.parametrize(
    ("sources", "run"),
    [
        ("success success", "success"),
        ("success failure", "partial_failure"),
        ("success partial_failure", "partial_failure"),
        ("failure partial_failure", "partial_failure"),
        ("failure failure", "failure"),
        ("", "failure"),
    ],
)
def test_a_run_ends_as_its_sources_did(sources: str, run: str) -> None:
    assert attempts.combined_status([RunStatus(source) for source in sources.split()]) == run


@pytest.fixture
def postgres(tmp_path: Path) -> PrivatePostgres:
    return PrivatePostgres(tmp_path / "private")


async def test_a_run_whose_outcome_postgres_did_not_hear_is_taken_up_again(
    postgres: PrivatePostgres, clock: SettableClock
) -> None:
    postgres.start()
    try:
        await asyncio.to_thread(migrations.upgrade, postgres.url)
        pool = await open_pool(postgres.url, size=2)
        desk = Desk(pool, clock)
        claimed = await desk.begin()

        async with attempts.attempt(Leases(pool, clock, LEASE), claimed) as outcome:
            outcome.status = RunStatus.SUCCESS
            postgres.stop()
        postgres.start()

        clock.pass_by(seconds=LEASE + 1)
        again, _ = await store.requeue_expired(pool, clock())
        assert again == [store.QueuedRun(claimed.run_id, "job", 2)]
        await desk.again(claimed.run_id, "w2")
        pool.terminate()
    finally:
        postgres.close()


async def test_a_claim_whose_answer_was_lost_is_handed_back_by_the_next_heartbeat(
    desk: Desk,
) -> None:
    run_id = await desk.ask(max_attempts=1)
    leases = desk.leases()
    leases.pool = cast("Pool", UnheardPool(desk.pool))
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await attempts.claim(leases, run_id, "w1")
    claimed = (await desk.row(run_id))["status"]
    desk.clock.pass_by(seconds=LEASE / 3)

    for _ in range(2):
        await leases.hand_back_unheard()

    row = await desk.row(run_id)
    assert claimed == "running"
    assert (row["status"], row["losses"], row["suspicions"]) == ("queued", 0, 0)
    assert await desk.events(run_id) == [("started", 1), ("cancelled", 1)]


async def test_a_claim_that_was_repeated_is_not_handed_back(desk: Desk) -> None:
    run_id = await desk.ask()
    leases = desk.leases()
    leases.unheard[run_id] = desk.clock()
    desk.clock.pass_by(seconds=1)
    claimed = await attempts.claim(leases, run_id, "w1")
    assert claimed is not None

    await leases.hand_back_unheard()

    assert (await desk.row(run_id))["status"] == "running"
    assert not leases.unheard


async def test_an_outcome_whose_answer_was_lost_is_recorded_once_and_known_to_be(
    desk: Desk,
) -> None:
    claimed = await desk.begin()
    leases = desk.leases()
    leases.pool = cast("Pool", UnheardPool(desk.pool))

    async with attempts.attempt(leases, claimed) as outcome:
        outcome.status = RunStatus.SUCCESS

    assert not outcome.fenced
    assert (await desk.row(claimed))["status"] == "success"
    assert await finished(desk, claimed) == 1


async def suppressing(outcome: AttemptOutcome) -> None:
    """A body that returns, and says that all is well, when it is cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    outcome.status = RunStatus.SUCCESS


async def test_a_body_that_suppresses_its_timeout_timed_out(desk: Desk) -> None:
    claimed = await desk.begin(timeout=0.05)

    await attempted(desk, claimed, suppressing)

    row = await desk.row(claimed)
    assert (row["status"], row["error_message"]) == ("timed_out", "took longer than 0.05 s")


async def test_a_body_that_suppresses_its_cancellation_hands_its_run_back(desk: Desk) -> None:
    claimed = await desk.begin()
    leases = desk.leases()

    async def attempt() -> AttemptOutcome:
        async with attempts.attempt(leases, claimed) as outcome:
            await suppressing(outcome)
        return outcome

    task = asyncio.create_task(attempt())
    await until(lambda: bool(leases.held))
    task.cancel()
    outcome = await task

    assert outcome.requeued == store.QueuedRun(claimed.run_id, "job", 2)
    assert await desk.events(claimed) == [("started", 1), ("cancelled", 1)]


async def test_an_outcome_waits_for_a_lock_on_its_run(desk: Desk, dsn: str) -> None:
    claimed = await desk.begin()
    leases = desk.leases()
    leases.pool = await open_pool(dsn, size=2, lock_wait=0.05)

    async def attempt() -> None:
        async with attempts.attempt(leases, claimed) as outcome:
            outcome.status = RunStatus.SUCCESS

    try:
        with capture_logs() as logs:
            async with desk.pool.acquire() as other, other.transaction():
                await other.execute("SELECT FROM runs FOR UPDATE")
                recording = asyncio.create_task(attempt())
                waits = ("postgres.locked", "run.unrecorded")
                await until(lambda: sum(line["event"] in waits for line in logs) > 6)
            await recording
    finally:
        leases.pool.terminate()

    assert (await desk.row(claimed))["status"] == "success"
    assert await finished(desk, claimed) == 1
