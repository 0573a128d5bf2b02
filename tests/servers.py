"""Real servers for the suite: one shared Postgres and Redis, and private ones a test may kill."""

import asyncio
import os
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.embedded import Servers, start
from app.embedded.place import ServerDirectories, allow_traversal, prepare_directories
from app.embedded.postgres import Postgres
from app.embedded.process import Daemon
from app.embedded.redis import Redis

REDIS_DATABASES = 64
# No test kills the shared Postgres: what survives a crash is tested on private servers.
NOT_DURABLE = ("fsync = off", "full_page_writes = off", "synchronous_commit = off")


def shared_root(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The session's own temporary folder, the same one in every pytest-xdist worker."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


def start_shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Servers:
    """The servers of this pytest session: the first worker to come starts them, the last one ends.

    `worker_id` is pytest-xdist's fixture of that name ("master" without xdist).
    """
    servers = start(shared_root(tmp_path_factory, worker_id) / "servers")
    asyncio.run(_stop_syncing(servers))
    return servers


async def _stop_syncing(servers: Servers) -> None:
    for setting in NOT_DURABLE:
        await _execute_at(_superuser(servers), f"ALTER SYSTEM SET {setting}")
    await _execute_at(_superuser(servers), "SELECT pg_reload_conf()")


async def create_database(servers: Servers, name: str, *, template: str | None = None) -> str:
    """A new empty database (or a copy of `template`, which nobody may be using), as a DSN."""
    copied = f' TEMPLATE "{template}"' if template else ""
    await _execute(servers, f'CREATE DATABASE "{name}"{copied}')
    return database_url(servers, name)


async def drop_database(servers: Servers, name: str) -> None:
    """Remove it, whoever is connected. Fine if there is none.

    As the superuser: an autovacuum at work in it may be ended by nobody else.
    """
    await _execute_at(_superuser(servers), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _superuser(servers: Servers) -> str:
    return servers.database_url.replace("//rollcall@", "//postgres@", 1)


def database_url(servers: Servers, name: str) -> str:
    """The DSN of another database of the same server."""
    return urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()


def redis_url(servers: Servers, worker_id: str) -> str:
    """The Redis database of this xdist worker: 0 for "master", N + 1 for "gwN"."""
    number = 0 if worker_id == "master" else int(worker_id.removeprefix("gw")) + 1
    if number >= REDIS_DATABASES:
        raise ValueError(f"{worker_id} has no Redis database: there are {REDIS_DATABASES}")
    address, _, _ = servers.redis_url.partition("?")
    return f"{address}?db={number}"


async def _execute(servers: Servers, statement: str) -> None:
    await _execute_at(servers.database_url, statement)


async def _execute_at(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


class _Private:
    """One server in a folder of its own, to be killed and started again by a test.

    Use it from the main thread: on Linux a server dies with the thread that started it.
    """

    def __init__(self, server: Postgres | Redis, place: ServerDirectories, lock: int) -> None:
        self._server = server
        self._place = place
        self._lock = lock

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def pid(self) -> int:
        return self._daemon.pid

    def start(self) -> None:
        """Start it, for the first time or again; returns when it answers. Data is kept."""
        assert threading.current_thread() is threading.main_thread()
        self._server.prepare()
        self._server.launch()
        self._server.wait_ready()

    def stop(self) -> None:
        """Stop it properly. Fine if it is not running."""
        if self._server.daemon is not None:
            self._server.ask_to_stop()
            self._server.daemon.wait()

    def kill(self) -> None:
        """kill -9."""
        self._daemon.kill()

    def freeze(self) -> None:
        """SIGSTOP: it neither answers nor goes away. For Postgres this is only the postmaster."""
        self._daemon.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._daemon.signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its sockets. Call it at the end of the test."""
        self.stop()
        self._place.clear_run()
        self.abandon()

    def abandon(self) -> None:
        """Give up the folder without stopping the server, as a keeper does that is killed."""
        os.close(self._lock)

    @property
    def _daemon(self) -> Daemon:
        assert self._server.daemon is not None, "not started"
        return self._server.daemon


class PrivatePostgres(_Private):
    """`url` is an asyncpg DSN of the database `rollcall`, owned by its role."""

    def __init__(self, folder: Path) -> None:
        place, lock = _settled(folder)
        sockets = place.run / "postgres"
        log = place.log / "postgres.log"
        super().__init__(
            Postgres(place.data_dir / "postgres", sockets=sockets, log=log), place, lock
        )


class PrivateRedis(_Private):
    """`url` names database 0."""

    def __init__(self, folder: Path) -> None:
        place, lock = _settled(folder)
        door = place.run / "redis.sock"
        log = place.log / "redis.log"
        super().__init__(Redis(place.data_dir / "redis", socket_path=door, log=log), place, lock)


def _settled(folder: Path) -> tuple[ServerDirectories, int]:
    place = prepare_directories(folder)
    lock = place.try_lock()
    assert lock is not None, f"{folder} is in use"
    place.recreate_run()
    allow_traversal(place.data_dir, place.run)
    return place, lock
