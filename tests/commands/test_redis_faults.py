"""What a Redis that cannot be used reads like: what is wrong, the setting, and the fix."""

import asyncio
import re
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from app.queue.jobs import redis_pool
from app.store import server_faults
from app.store.db import Pool
from scripts.tcp_server import tcp_server
from tests.certificates import self_signed
from tests.commands.conftest import Rollcall
from tests.commands.test_options import declare, insert_run

RESOLVE = socket.getaddrinfo
_COMMAND = re.compile(rb"(?m)^\*\d+\r$")  # how each begins


@contextmanager
def answering(reply: bytes) -> Generator[int]:
    """A server that answers every command with these bytes; without any it closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(ConnectionError):  # the client may close at any time
                while reply and (sent := client.recv(4096)):
                    client.sendall(reply * len(_COMMAND.findall(sent)))

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.mark.parametrize(
    ("reply", "what", "fix"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Redis answers there", "correct the host"),
        (b"", "it closes the connection", "begin the URL with rediss://"),
        (b"-ERR DB index is out of range\r\n", "no such database", "such as /0"),
        (b"-LOADING loading\r\n", "it is loading its data", "wait until"),
        (b"-READONLY no writes\r\n", "it is a replica", "name the primary server"),
        (b"-OOM command not allowed\r\n", "its memory is used up", "raise its maxmemory"),
        (b"-NOAUTH Authentication required.\r\n", "refuses the login", "correct its user"),
    ],
)
async def test_what_a_redis_answers_is_said_with_its_fix(reply: bytes, what: str, fix: str) -> None:
    with answering(reply) as port:
        sentence = await redis_fault(f"redis://127.0.0.1:{port}/0")

    assert "REDIS_URL" in sentence
    assert what in sentence
    assert fix in sentence


def resolved(host: str, port: int, *rest: int, **named: int) -> list[tuple[object, ...]]:
    """Resolve names as a name server does that answers at once, which the machine's may not."""
    if host.endswith(".invalid"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return list(RESOLVE(host, port, *rest, **named))


@pytest.mark.parametrize(
    ("url", "what", "fix"),
    [
        ("redis://127.0.0.1:1/0", "nothing listens there", "start the server"),
        ("redis://nohost.invalid/0", "its host name is not known", "check the DNS"),
        ("unix:///no/such.sock", "its socket does not exist", "correct the path"),
    ],
)
async def test_a_redis_that_is_not_there_is_said_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, url: str, what: str, fix: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolved)

    sentence = await redis_fault(url)

    assert sentence.startswith(f"Redis cannot be used (REDIS_URL): {what} (")
    assert fix in sentence


async def test_what_is_recorded_while_redis_is_away_is_done_and_says_who_goes_on(
    rollcall: Rollcall, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(pool, timedelta(minutes=5))
    ended = await insert_run(pool, timedelta(hours=1))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    done = [
        await rollcall("trigger", "scrape_all_platforms"),
        await rollcall("retry", str(ended)),
    ]
    queued = await pool.fetch("SELECT execution_id FROM runs WHERE status = 'queued'")
    done.append(await rollcall("retire", "scrape"))

    assert [one.exit_code for one in done] == [0, 0, 0], done
    assert all("nothing listens there" in one.stderr for one in done)
    assert all("recorded all the same" in one.stderr for one in done)
    assert {one.stdout.strip() for one in done[:2]} <= {str(row[0]) for row in queued}
    assert await pool.fetchval("SELECT retired_at IS NOT NULL FROM schedules WHERE key = 'scrape'")


async def test_a_self_signed_certificate_of_redis_names_its_setting(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader, writer

    async with tcp_server(hang_up, ssl=self_signed(tmp_path)) as port:
        sentence = await redis_fault(f"rediss://127.0.0.1:{port}/0")

    assert "its certificate is not accepted" in sentence
    assert "REDIS_SSL_CERT_REQS=none" in sentence


async def redis_fault(url: str) -> str:
    """What is said when a command needs the Redis at this address."""
    redis = redis_pool(url)
    try:
        with pytest.raises(RedisError) as failed:
            await redis.set("rollcall:test", "x")
    finally:
        await redis.aclose(close_connection_pool=True)
    return server_faults.sentence(failed.value)
