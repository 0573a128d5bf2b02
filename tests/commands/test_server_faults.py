"""What a wrong server, setting or file reads like: one sentence with the fix, and exit code 2."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.embedded import Servers
from app.store import db, server_faults
from tests.servers import create_database, drop_database

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "migrate": ("app", "migrate"),
    "jobs": ("app", "jobs"),
    "worker": ("arq", "app.workers.Settings"),
    "web": ("uvicorn", "app.web:app", "--port", "0"),
}


class _Refusing:
    """A Postgres that refuses every login with an SQLSTATE, and knows no SSL."""

    def __init__(self, state: str, message: str) -> None:
        fields = f"SFATAL\0VFATAL\0C{state}\0M{message}\0\0".encode()
        self._refusal = b"E" + struct.pack(">i", len(fields) + 4) + fields
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, suppress(ConnectionError):  # the client may close at any time
                if client.recv(8)[4:] == b"\x04\xd2\x16\x2f":  # SSLRequest
                    client.sendall(b"N")
                if not client.recv(4096):
                    continue
                client.sendall(self._refusal)

    def close(self) -> None:
        self._listener.close()


@contextmanager
def refusing(state: str, message: str) -> Generator[str]:
    server = _Refusing(state, message)
    yield f"postgres://u:hush-hush@127.0.0.1:{server.port}/wares"
    server.close()


async def run(
    where: Path, command: tuple[str, ...], **settings: str
) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(_run, where, command, settings)


def _run(
    where: Path, command: tuple[str, ...], settings: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}  # noqa: TID251 - the child's
    env["RES_OPTIONS"] = "timeout:1 attempts:1"  # the machine's name server may not answer
    return subprocess.run(  # noqa: S603 - this program
        [sys.executable, "-m", *command],
        cwd=where,
        env=env | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


REFUSALS = {
    "password": ("28P01", 'password authentication failed for user "u"', "correct its password"),
    "database": ("3D000", 'database "wares" does not exist', "createdb"),
    "too_many": ("53300", "sorry, too many clients already", "lower DATABASE_POOL_SIZE"),
    "starting": ("57P03", "the database system is starting up", "wait until it has started"),
    "option": ("42704", "unrecognized configuration parameter", "correct what follows its `?`"),
    "no_pg_hba": ("28000", "no pg_hba.conf entry for host, no encryption", "pg_hba.conf"),
}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("migrate", "password"),
        ("migrate", "no_pg_hba"),
        ("jobs", "database"),
        ("jobs", "too_many"),
        ("jobs", "starting"),
        ("jobs", "option"),
        ("worker", "option"),
        ("web", "option"),
        ("worker", "database"),
        ("worker", "password"),
        ("web", "password"),
    ],
)
async def test_a_refused_login_is_one_sentence_and_exit_code_2(
    tmp_path: Path, redis_url: str, command: str, why: str
) -> None:
    state, message, fix = REFUSALS[why]
    with refusing(state, message) as dsn:
        done = await run(
            tmp_path, COMMANDS[command], DATABASE_URL=dsn, REDIS_URL=redis_url, LOG_FORMAT="json"
        )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    ended = [line for line in lines if line["event"] == "process.ended"]
    assert done.returncode == 2, done.stderr
    assert len(ended) == 1
    assert message in ended[0]["error"]
    assert fix in ended[0]["error"]
    assert "DATABASE_URL" in ended[0]["error"]
    assert "hush-hush" not in done.stderr


@pytest.mark.parametrize(
    ("command", "url", "fix"),
    [
        ("migrate", "postgres://u:p@127.0.0.1:1/x", "start the server"),
        ("migrate", "postgres://u:p@nohost.invalid/x", "correct it, or check the DNS"),
        ("jobs", "postgres://u:p@%2Fno%2Fsuch/x", "its socket does not exist"),
    ],
)
async def test_an_unreachable_postgres_is_one_sentence(
    tmp_path: Path, redis_url: str, command: str, url: str, fix: str
) -> None:
    done = await run(tmp_path, COMMANDS[command], DATABASE_URL=url, REDIS_URL=redis_url)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Postgres cannot be reached (DATABASE_URL): ")
    assert fix in line


async def test_a_missing_certificate_is_no_missing_socket(tmp_path: Path, redis_url: str) -> None:
    url = "postgres://u:p@127.0.0.1:1/x?sslmode=verify-ca&sslrootcert=/no/such.pem"

    done = await run(tmp_path, COMMANDS["jobs"], DATABASE_URL=url, REDIS_URL=redis_url)

    assert done.returncode == 2
    assert "(DATABASE_URL): the file of sslrootcert, sslcert or sslkey does not" in done.stderr
    assert "correct its path" in done.stderr


def test_tables_of_something_else_are_said() -> None:
    said = server_faults.sentence(asyncpg.DuplicateTableError('relation "runs" already exists'))

    assert said.startswith("The database of DATABASE_URL has tables of something else (")
    assert said.endswith("name one of Rollcall's own, or an empty one")


async def test_a_server_without_ssl_is_said(tmp_path: Path) -> None:
    with refusing("28000", "") as dsn:
        done = await run(tmp_path, COMMANDS["migrate"], DATABASE_URL=f"{dsn}?sslmode=require")

    assert done.returncode == 2
    assert "the server has no SSL" in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_a_redis_that_wants_a_password_ends_a_worker(
    tmp_path: Path, dsn: str, redis_url: str
) -> None:
    with_password = redis_url.replace("unix://", "unix://nobody:hush-hush@", 1)

    done = await run(tmp_path, COMMANDS["worker"], DATABASE_URL=dsn, REDIS_URL=with_password)

    assert done.returncode == 2, done.stderr
    assert "Redis refuses the login of REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush-hush" not in done.stderr


async def test_a_web_process_on_a_database_without_a_schema_exits_with_2(
    tmp_path: Path, redis_url: str, empty_dsn: str
) -> None:
    done = await run(tmp_path, COMMANDS["web"], DATABASE_URL=empty_dsn, REDIS_URL=redis_url)

    assert done.returncode == 2, done.stderr
    assert "migrate" in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_export_to_nowhere_is_an_error_of_the_file(
    tmp_path: Path, dsn: str, redis_url: str
) -> None:
    command = ("app", "export", "runs", "/nowhere/x.csv")

    done = await run(tmp_path, command, DATABASE_URL=dsn, REDIS_URL=redis_url)

    assert done.returncode == 2, done.stderr
    assert (
        done.stderr.splitlines()[-1] == "/nowhere/x.csv cannot be used: No such file or directory"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["jobs", "worker", "web"])
async def test_an_env_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / ".env").write_bytes(b"CONTACT=\xff\xfe\n")

    done = await run(tmp_path, COMMANDS[command], LOG_FORMAT="json")

    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert json.loads(line)["error"].startswith(".env cannot be read (it is not UTF-8)")


@pytest.fixture
async def empty_dsn(servers: Servers) -> AsyncGenerator[str]:
    """A database without a schema."""
    name = f"empty_{os.getpid()}"
    yield await create_database(servers, name)
    await drop_database(servers, name)


async def test_a_process_that_waits_for_postgres_says_so_once_and_not_at_every_attempt() -> None:
    with capture_logs() as lines, pytest.raises(ConnectionError):
        await db.open_pool("postgresql://127.0.0.1:1/rollcall", size=1, wait_seconds=1.6)

    (line,) = [one for one in lines if one["event"] == "postgres.away"]
    assert "start the server, or correct the host and the port" in line["error"]
