"""Everything works through PgBouncer in transaction mode, as Heroku and Supabase offer it."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from arq.connections import ArqRedis

from app import migrations
from app.embedded import Servers
from app.store import tenancy
from app.store.db import open_pool
from scripts.standin.testing import Standin
from tests import servers as real
from tests import worker_harness
from tests.configs import config_for
from tests.execute.tables import events_of
from tests.worker_harness import perform, run_row

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
pytestmark = pytest.mark.skipif(not Path(PGBOUNCER).exists(), reason="PgBouncer is not installed")

IGNORED = "rollcall.house,random_page_cost,lock_timeout,idle_in_transaction_session_timeout"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def forward_to(path: str) -> Generator[int]:
    """The port of a thread that forwards connections to a Unix socket; closed at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    pipes: list[threading.Thread] = []

    def pipe(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def connect(near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(path)
            back = threading.Thread(target=pipe, args=(far, near))
            back.start()
            pipe(near, far)
            back.join()

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # the listener was shut down
                return
            pipes.append(threading.Thread(target=connect, args=(near,)))
            pipes[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for one in pipes:
            one.join()


@pytest.fixture(params=["", IGNORED], ids=["refuses", "ignores"])
def pooler(servers: Servers, request: pytest.FixtureRequest) -> Iterator[str]:
    """The DSN of an empty database behind a pooler that refuses or ignores unknown parameters."""
    dsn = asyncio.run(real.create_database(servers, f"pooled_{uuid4().hex}"))
    url, port = urlsplit(dsn), free_port()
    host = url.hostname or parse_qs(url.query)["host"][0]
    ends = contextlib.ExitStack()
    port_behind = url.port or 5432
    if host.startswith("/"):  # which the pooler's account cannot reach
        port_behind = ends.enter_context(forward_to(f"{host}/.s.PGSQL.{port_behind}"))
        host = "127.0.0.1"
    home = Path("/tmp") / f"pooler-{port}"  # noqa: S108 - its user must reach it
    home.mkdir(mode=0o755)
    (home / "users").write_text(f'"{url.username}" ""\n')
    (home / "ini").write_text(
        f"[databases]\n* = host={host} port={port_behind}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {home}/users\npool_mode = transaction\ndefault_pool_size = 3\n"
        f"ignore_startup_parameters = {request.param}\n"
    )
    (home / "ini").chmod(0o644)
    command = [PGBOUNCER, "-q", "-u", "nobody", str(home / "ini")]
    process = subprocess.Popen(command)  # noqa: S603 - our own arguments
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            asyncio.run(asyncio.sleep(0.05))
        yield f"postgresql://{url.username}@127.0.0.1:{port}{url.path}"
    finally:
        process.terminate()
        process.wait(10)
        ends.close()
        shutil.rmtree(home)
        asyncio.run(real.drop_database(servers, url.path.lstrip("/")))


async def test_a_worker_runs_through_a_pooler(
    pooler: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> None:
    with ThreadPoolExecutor(1) as thread:  # Alembic runs a loop of its own
        for _ in range(2):
            await asyncio.wrap_future(thread.submit(migrations.upgrade, pooler))
    config = config_for(pooler, redis_url, standin)
    async with worker_harness.opened(config, redis) as context:
        for _ in range(3):
            await context.heartbeat.beat()
        run_ids = [await perform(context) for _ in range(2)]
        rows = [await run_row(context.pool, run_id) for run_id in run_ids]

        assert [row["status"] for row in rows] == ["success", "success"]
        assert sum((await events_of(context.pool)).values()) == 90
        assert rows[1]["stats"]["pages_unchanged"] > 0


async def test_a_transaction_of_an_organisation_is_narrow_and_the_next_one_is_not(
    pooler: str,
) -> None:
    with ThreadPoolExecutor(1) as thread:
        await asyncio.wrap_future(thread.submit(migrations.upgrade, pooler))
    pool = await open_pool(pooler, size=4)
    try:
        org_ids = [uuid4(), uuid4()]
        for org_id in org_ids:
            await pool.execute(
                "INSERT INTO organizations (id, name) VALUES ($1, $2)", org_id, str(org_id)
            )

        async def seen(org_id: UUID | None) -> int:
            async with tenancy.transaction(pool, org_id) as connection:
                return await connection.fetchval("SELECT count(*) FROM organizations")

        counts = await asyncio.gather(*(seen(one) for one in [*org_ids, None] * 20))
        kept = await pool.fetchval("SHOW lock_timeout")
    finally:
        pool.terminate()

    assert counts == [1, 1, 2] * 20
    assert kept == "10s"
