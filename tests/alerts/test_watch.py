"""The watch on real servers: one flip and one message, however many watch and whoever dies."""

import asyncio
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC
from datetime import time as time_of_day
from pathlib import Path
from typing import IO, Any, cast
from uuid import uuid4

import asyncpg
import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.core.config import Config
from app.core.enums import RunStatus
from app.core.quiet_hours import QuietHours
from app.core.tasks import cancel_all
from app.health.alerts.send import SEND_TIMEOUT
from app.health.alerts.watch import COLLECTIONS_KEY
from app.health.alerts.watcher import POSTGRES_ALERT_KEY, POSTGRES_AWAY_KEY, AlertWatcher
from app.health.keys import WRITE_PROBE, delete_job, read_system, write_jobs, write_worker
from app.queue.jobs import redis_pool
from app.store.db import Pool, open_pool
from tests.alerts.receiver import Receiver, receiving
from tests.alerts.watching import BEAT, config, facts, silent, step, watcher
from tests.redis_process import redis_process
from tests.wait import until

ROOT = Path(__file__).parents[2]


@contextmanager
def four_watching(dsn: str, redis_url: str, receiver: Receiver) -> Generator[None]:
    """Four processes, each looking ten times a second."""
    environment = {
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "ALERT_URLS": receiver.url,
        "ALERT_GROUP_SECONDS": "0",
    }
    command = [sys.executable, "-m", "tests.alerts.watch_process"]
    with tempfile.TemporaryFile() as said:
        processes = [_started(command, environment, said) for _ in range(4)]
        try:
            yield
            assert [process.poll() for process in processes] == [None] * 4
        finally:
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.wait()


def _started(
    command: list[str], environment: dict[str, str], said: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said)  # noqa: S603 - our own


@contextmanager
def hanging_ports(count: int) -> Generator[list[int]]:
    """Loopback ports that accept a connection and never answer."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        yield [one.getsockname()[1] for one in sockets]


async def flips(pool: Pool) -> list[tuple[str, str, str]]:
    rows = await pool.fetch("SELECT key, before, after FROM health_flips ORDER BY at, sequence")
    return [tuple(row) for row in rows]


async def test_four_processes_tell_of_an_illness_once_and_of_its_end_once(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", facts())])

    async def judged() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM health_states WHERE key = 'poll'"))

    async def sent(number: int) -> bool:
        return len(receiver.messages) >= number

    with four_watching(dsn, redis_url, receiver):
        await until(judged, 20)
        await write_jobs(redis, [("poll", silent())])
        await until(lambda: sent(1), 20)
        await write_jobs(redis, [("poll", facts())])
        await until(lambda: sent(2), 20)
        await asyncio.sleep(1)  # forty looks, in which nobody may say it again

    assert receiver.titles == ["[rollcall] poll is overdue", "[rollcall] poll is healthy again"]
    assert await flips(pool) == [("poll", "healthy", "unhealthy"), ("poll", "unhealthy", "healthy")]
    assert "abc123" not in str(receiver.messages)


async def test_when_the_last_worker_dies_one_message_says_so_and_the_jobs_are_silent(
    dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_jobs(redis, [("poll", facts(interval_seconds=3))])
    await write_worker(redis, "w", 0.5, BEAT)

    async def sent() -> bool:
        return bool(receiver.messages)

    with four_watching(dsn, redis_url, receiver):
        await until(sent, 20)
        await write_jobs(redis, [("poll", replace(silent(), interval_seconds=3))])
        await asyncio.sleep(1)  # forty looks, in which no job may be reported

    assert receiver.titles == ["[rollcall] the scheduler is down: no live worker"]


async def test_a_notifier_that_fails_is_tried_again_and_shown_and_holds_up_nobody(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    receiver.status = 500
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])

    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        await step(watching)
        shown = await read_system(redis)
        receiver.status = 200
        await step(watching)
        early = list(receiver.titles)
        await pool.execute("UPDATE notifications SET next_try_at = now()")
        await step(watching)
        after = await read_system(redis)

    assert (shown.pending, shown.notifier_error) == (1, "the json notifier rejected the message")
    assert shown.failing_since is not None
    assert early == []
    assert receiver.titles == ["[rollcall] poll is overdue"]
    assert (after.pending, after.failing_since) == (0, None)


async def test_a_notifier_that_failed_and_was_removed_is_not_shown_as_failing(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    receiver.status = 500
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])
    settings = config(dsn, redis_url, receiver)
    async with watcher(settings, pool, redis) as watching:
        await step(watching)
    failing = await read_system(redis)

    async with watcher(settings.model_copy(update={"alert_urls": None}), pool, redis) as watching:
        await step(watching)
    removed = await read_system(redis)

    assert (failing.pending, failing.failing_since is None) == (1, False)
    assert (removed.pending, removed.failing_since, removed.notifier_error) == (0, None, None)


async def test_what_is_ill_at_first_sight_flips_and_what_is_well_does_not(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", facts())])
    await write_jobs(redis, [("odds", silent())])

    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        await step(watching)
        await step(watching)

    assert await flips(pool) == [("odds", "unknown", "unhealthy")]


async def test_a_change_of_reason_is_written_down_but_told_once(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])

    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        await step(watching)
        await write_jobs(redis, [("poll", facts(history=(RunStatus.FAILURE,) * 3))])
        await step(watching)

    assert [after for _, _, after in await flips(pool)] == ["unhealthy", "unhealthy"]
    assert receiver.titles == ["[rollcall] poll is overdue"]


async def collect(pool: Pool, name: str, *, notify: bool) -> None:
    """A collection of an organization of that name, whose tick nobody decides."""
    org = uuid4()
    await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, $2)", org, name)
    await pool.execute(
        "INSERT INTO schedules (key, job, org_id, spec, policies, params, version, enabled, notify,"
        " effective_from, evaluated_through, next_tick_at, due_at) VALUES ($1, 'collection', $2,"
        " '{}', '{\"misfire_grace_seconds\": 1}', '{}', 1, true, $3, now(), now(),"
        " now() - interval '1 hour', now() - interval '1 hour')",
        f"collection:{org}",
        org,
        notify,
    )


async def test_collections_that_want_it_tell_their_organisation_and_not_the_operator(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", facts())])
    for name, notify in (("acme", True), ("bolt", True), ("hush", False)):
        await collect(pool, name, notify=notify)

    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        await step(watching)
        await pool.execute("UPDATE schedules SET due_at = now() + interval '1 hour'")
        await step(watching)  # within the same minute nobody looks at collections
        await redis.delete(COLLECTIONS_KEY)
        await step(watching)

    result = await pool.fetch(
        "SELECT o.name, c.fields -> 'status' ->> 'to', c.fields -> 'reason' ->> 'to'"
        " FROM changes c JOIN organizations o ON o.id = c.org_id WHERE c.kind = 'health'"
        " ORDER BY c.position, c.id"
    )
    assert sorted(tuple(row) for row in result) == [
        ("acme", "healthy", None),
        ("acme", "unhealthy", "overdue"),
        ("bolt", "healthy", None),
        ("bolt", "unhealthy", "overdue"),
    ]
    assert receiver.titles == []


async def test_a_redis_that_is_away_is_told_and_no_job_is_blamed(
    pool: Pool, dsn: str, receiver: Receiver
) -> None:
    nowhere = ArqRedis(unix_socket_path="/nonexistent/redis.sock")
    settings = config(dsn, "redis://127.0.0.1:1/0", receiver)

    async with watcher(settings, pool, nowhere) as watching:
        await step(watching)
        await pool.execute("UPDATE health_states SET flipped_at = now() - interval '1 minute'")
        await step(watching)

    assert receiver.titles == ["[rollcall] Redis does not answer"]


async def test_a_redis_that_takes_no_writes_is_told_with_the_fix_and_no_worker_is_blamed(
    pool: Pool, dsn: str, receiver: Receiver
) -> None:
    with redis_process() as server:
        full = redis_pool(server.url)
        await write_jobs(full, [("poll", silent())])
        await server.refuse_writes()

        async with watcher(config(dsn, server.url, receiver), pool, full) as watching:
            await step(watching)
            await pool.execute("UPDATE health_states SET flipped_at = now() - interval '1 minute'")
            await step(watching)
        await full.aclose(close_connection_pool=True)

    assert receiver.titles == ["[rollcall] Redis refuses writes"]
    assert "its memory is used up" in receiver.messages[0]["message"]


async def test_a_redis_that_refuses_the_login_is_told_with_the_fix(
    pool: Pool, dsn: str, receiver: Receiver
) -> None:
    with redis_process() as server:
        client = redis_pool(server.url)
        await cast("Any", client).config_set("requirepass", "another")
        await cast("Any", client.connection_pool).disconnect()

        async with watcher(config(dsn, server.url, receiver), pool, client) as watching:
            await step(watching)
            await pool.execute("UPDATE health_states SET flipped_at = now() - interval '1 minute'")
            await step(watching)
        await client.aclose(close_connection_pool=True)

    assert receiver.titles == ["[rollcall] Redis refuses the login"]
    assert "correct its user and password" in receiver.messages[0]["message"]


async def test_a_worker_watches_by_itself_only_while_redis_fails(
    pool: Pool, dsn: str, receiver: Receiver
) -> None:
    with redis_process() as server:
        client = redis_pool(server.url)
        await write_jobs(client, [("poll", silent())])

        async def probed() -> bool:
            return bool(await client.delete(WRITE_PROBE))

        async with watcher(config(dsn, server.url, receiver), pool, client) as watching:
            watch = asyncio.create_task(watching.run_while_redis_fails(0.05))
            for _ in range(3):
                await until(probed, 20, "the look at Redis")
            before = await flips(pool)
            await server.refuse_writes()
            await until(lambda: _has_flipped(pool), 20, "what it sees")
            await pool.execute("UPDATE health_states SET flipped_at = now() - interval '1 minute'")
            await until(lambda: bool(receiver.messages), 20, "the message")
            await cancel_all([watch])
        await client.aclose(close_connection_pool=True)

    assert before == []
    assert receiver.titles == ["[rollcall] Redis refuses writes"]


async def test_a_worker_that_alone_cannot_use_redis_leaves_the_watch_to_the_others(
    pool: Pool, dsn: str, redis: ArqRedis, receiver: Receiver
) -> None:
    nowhere = ArqRedis(unix_socket_path="/nonexistent/redis.sock")
    settings = config(dsn, "redis://127.0.0.1:1/0", receiver)
    await write_jobs(redis, [("poll", facts())])
    await write_worker(redis, "w", 60, BEAT)

    async with watcher(settings, pool, nowhere) as alone, watcher(settings, pool, redis) as other:
        watch = asyncio.create_task(alone.run_while_redis_fails(0.05))
        await until(lambda: _has_flipped(pool), 20, "what it sees")
        while ("scheduler", "unhealthy", "healthy") not in await flips(pool):
            await other.step()
        before = await flips(pool)
        await asyncio.sleep(0.5)  # ten more looks
        await cancel_all([watch])

    assert await flips(pool) == before


async def _has_flipped(pool: Pool) -> bool:
    return any(key == "scheduler" for key, _, _ in await flips(pool))


async def test_while_postgres_is_away_one_of_all_watchers_tells_it_and_its_return(
    dsn: str,
    redis: ArqRedis,
    redis_url: str,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.health.alerts.watcher.POSTGRES_OUTAGE_LIMIT", 0)
    settings = config(dsn, redis_url, receiver)
    pool = await open_pool(dsn, size=2)
    gone = await open_pool(dsn, size=1)
    gone.terminate()

    async with watcher(settings, gone, redis) as one, watcher(settings, gone, redis) as two:
        await one.step()
        await two.step()
        await one.step()
    await redis.delete(POSTGRES_AWAY_KEY)  # a minute later
    async with watcher(settings, pool, redis) as back:
        await back.step()
        await back.step()
    pool.terminate()

    assert receiver.titles == [
        "[rollcall] Postgres does not answer",
        "[rollcall] Postgres answers again",
    ]


async def test_the_notifier_receives_the_severity_of_each_message(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        await write_jobs(redis, [("poll", silent())])
        await step(watching)
        await write_jobs(redis, [("poll", facts())])
        await step(watching)

    assert [(m["type"], m["title"]) for m in receiver.messages] == [
        ("failure", "[rollcall] poll is overdue"),
        ("success", "[rollcall] poll is healthy again"),
    ]


async def test_a_message_that_a_slow_notifier_takes_late_is_sent_once(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    receiver.held.clear()
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])
    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        notifiers = watching._notifiers  # pyright: ignore[reportPrivateUsage] - its time is set
        notifiers.send_timeout = 0.01
        await watching.step()

        async def failed() -> bool:
            return bool(await pool.fetchval("SELECT last_error FROM notifications"))

        await until(failed, 60, "the timeout")
        receiver.held.set()

        async def sent() -> bool:
            return bool(await pool.fetchval("SELECT sent_at FROM notifications"))

        await until(sent, 60, "the late delivery")
        await notifiers.deliver(pool)

    assert receiver.titles == ["[rollcall] poll is overdue"]


async def test_hung_notifiers_delay_neither_the_others_nor_the_watch(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])
    with hanging_ports(2) as ports:
        hung = [f"json://127.0.0.1:{port}" for port in ports]
        urls = SecretStr(" ".join([*hung, receiver.url]))
        settings = config(dsn, redis_url, receiver).model_copy(update={"alert_urls": urls})
        async with watcher(settings, pool, redis) as watching:
            started = time.monotonic()
            await watching.step()
            took = time.monotonic() - started

            async def received() -> bool:
                return bool(receiver.titles)

            await until(received, 15)

    assert receiver.titles == ["[rollcall] poll is overdue"]
    assert took < SEND_TIMEOUT / 2


@pytest.fixture
def outage(dsn: str, redis_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The settings of a watcher that reports an outage of Postgres at once."""
    monkeypatch.setattr("app.health.alerts.watcher.POSTGRES_OUTAGE_LIMIT", 0)
    return config(dsn, redis_url, receiver)


@asynccontextmanager
async def no_postgres(dsn: str) -> AsyncGenerator[Pool]:
    gone = await open_pool(dsn, size=1)
    gone.terminate()
    yield gone


@asynccontextmanager
async def read_only_postgres(dsn: str) -> AsyncGenerator[Pool]:
    setting = "options=-cdefault_transaction_read_only%3Don"
    pool = await open_pool(f"{dsn}{'&' if '?' in dsn else '?'}{setting}", size=1)
    try:
        yield pool
    finally:
        pool.terminate()


def use(watching: AlertWatcher, pool: Pool, redis: ArqRedis | None = None) -> None:
    """Let the watcher reach another Postgres from now on, or also another Redis."""
    watched = watching._watched  # pyright: ignore[reportPrivateUsage] - what it reaches, not what it did
    changed = replace(watched, pool=pool, redis=redis or watched.redis)
    watching._watched = changed  # pyright: ignore[reportPrivateUsage] - as above


AWAY_AND_BACK = ["[rollcall] Postgres does not answer", "[rollcall] Postgres answers again"]


async def test_a_process_that_alone_cannot_reach_postgres_reports_it_once(
    pool: Pool, dsn: str, redis: ArqRedis, outage: Config, receiver: Receiver
) -> None:
    async with (
        no_postgres(dsn) as gone,
        watcher(outage, gone, redis) as cut_off,
        watcher(outage, pool, redis) as well,
    ):
        for _ in range(3):
            await cut_off.step()
            await step(well)
        during = list(receiver.titles)
        use(cut_off, pool)
        await step(cut_off)

    assert during == AWAY_AND_BACK[:1]
    assert receiver.titles == AWAY_AND_BACK


async def test_a_notifier_that_failed_is_told_of_the_outage_by_a_later_step(
    dsn: str, redis: ArqRedis, outage: Config, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    monkeypatch.setattr("app.health.alerts.watcher.POSTGRES_RETRY_SECONDS", 0)
    with receiving() as other:
        other.status = 500
        urls = SecretStr(f"{receiver.url} {other.url}")
        both = outage.model_copy(update={"alert_urls": urls})
        async with no_postgres(dsn) as gone, watcher(both, gone, redis) as watching:
            await watching.step()
            await watching.step()
            other.status = 200
            await watching.step()
            await watching.step()

    assert receiver.titles == AWAY_AND_BACK[:1]
    assert other.titles == AWAY_AND_BACK[:1]


async def test_the_end_of_an_outage_of_both_servers_is_reported(
    pool: Pool, dsn: str, redis: ArqRedis, outage: Config, receiver: Receiver
) -> None:
    nowhere = ArqRedis(unix_socket_path="/nonexistent/redis.sock")

    async with no_postgres(dsn) as gone, watcher(outage, gone, nowhere) as watching:
        await watching.step()
        await watching.step()
        use(watching, pool, redis)
        await step(watching)
        await step(watching)

    assert receiver.titles == AWAY_AND_BACK


async def test_an_outage_that_ends_in_quiet_hours_is_over_in_a_message_after_them(
    pool: Pool, dsn: str, redis: ArqRedis, outage: Config, receiver: Receiver
) -> None:
    night = QuietHours(time_of_day(0), time_of_day(23, 59, 59, 999_999), UTC)

    async with no_postgres(dsn) as gone, watcher(outage, gone, redis) as watching:
        await watching.step()
        policy = watching._watched.policy  # pyright: ignore[reportPrivateUsage] - to change it
        use(watching, pool)
        watching._watched = replace(  # pyright: ignore[reportPrivateUsage] - as above
            watching._watched,  # pyright: ignore[reportPrivateUsage] - as above
            policy=replace(policy, quiet=night),
        )
        await step(watching)
        at_night = list(receiver.titles)
        await redis.delete(POSTGRES_ALERT_KEY)  # six hours later
        watching._watched = replace(watching._watched, policy=policy)  # pyright: ignore[reportPrivateUsage] - as above
        await step(watching)

    assert at_night == AWAY_AND_BACK[:1]
    assert receiver.titles == AWAY_AND_BACK


async def test_a_postgres_in_which_nothing_can_be_recorded_is_reported(
    pool: Pool, dsn: str, redis: ArqRedis, outage: Config, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])

    async with read_only_postgres(dsn) as full, watcher(outage, full, redis) as watching:
        await watching.step()
        await watching.step()
        use(watching, pool)
        await step(watching)

    assert receiver.titles[0] == "[rollcall] Postgres cannot be used"
    assert "read-only" in receiver.messages[0]["message"]
    assert sorted(receiver.titles[1:]) == [AWAY_AND_BACK[1], "[rollcall] poll is overdue"]


class FailingPool:
    """A pool of which each statement fails with `error`."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def fail(*_args: Any, **_options: Any) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize(
    ("error", "level", "traced"),
    [
        (asyncpg.DeadlockDetectedError("deadlock detected"), "warning", False),
        (asyncpg.QueryCanceledError("canceled by an operator"), "warning", False),
        (RuntimeError("a fault of ours"), "error", True),
    ],
)
async def test_only_a_fault_of_ours_is_logged_with_a_traceback(
    redis: ArqRedis, outage: Config, error: Exception, level: str, *, traced: bool
) -> None:
    failing = cast("Pool", FailingPool(error))

    with capture_logs() as logs:
        async with watcher(outage, failing, redis) as watching:
            task = asyncio.create_task(watching.run_forever(0.01))
            await until(lambda: logs, what="a step to fail")
            task.cancel()

    failed = [line for line in logs if line["event"] == "alert.watch_failed"]
    assert [(line["log_level"], line["exc_info"] is not None) for line in failed] == [
        (level, traced)
    ]


async def test_a_recovery_that_cannot_be_queued_is_queued_by_a_later_step(
    pool: Pool, dsn: str, redis: ArqRedis, outage: Config, receiver: Receiver
) -> None:
    async with no_postgres(dsn) as gone, watcher(outage, gone, redis) as watching:
        await watching.step()
        use(watching, pool)
        await pool.execute("ALTER TABLE notifications RENAME TO full_up")
        with pytest.raises(asyncpg.UndefinedTableError):
            await watching.step()
        await pool.execute("ALTER TABLE full_up RENAME TO notifications")
        await step(watching)

    assert receiver.titles == AWAY_AND_BACK


async def test_the_alert_of_a_job_ends_when_it_is_retired_and_not_when_redis_loses_it(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", silent())])
    await pool.execute(
        "INSERT INTO schedules (key, job, spec, policies, params, version, enabled, effective_from,"
        " evaluated_through) VALUES ('poll', 'poll', '{}', '{}', '{}', 1, true, now(), now())"
    )

    async with watcher(config(dsn, redis_url, receiver), pool, redis) as watching:
        await step(watching)
        await delete_job(redis, "poll")
        await step(watching)
        lost = list(receiver.titles)
        await pool.execute("UPDATE schedules SET retired_at = now()")
        await step(watching)
        await step(watching)

    assert lost == ["[rollcall] poll is overdue"]
    assert receiver.titles == [*lost, "[rollcall] poll is no longer unhealthy"]
    assert not await pool.fetchval("SELECT ill FROM health_states WHERE key = 'poll'")
