"""A private Postgres and Redis that a chaos run can kill, freeze and restart."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from redis import Redis as Client

from app import migrations
from app.embedded.place import ServerDirectories, allow_traversal, prepare_directories
from app.embedded.postgres import Postgres
from app.embedded.redis import Redis

Span = tuple[datetime, datetime]


@dataclass(slots=True)
class Server:
    """One server, whether it is up, and the spans in which it was down."""

    server: Postgres | Redis
    up: bool = False
    frozen: bool = False
    outages: list[Span] = field(default_factory=list[Span])
    _since: datetime | None = None

    def start(self) -> None:
        """Start or restart the server; returns once it answers."""
        self.server.prepare()
        self.server.launch()
        self.server.wait_ready()
        self.up = True
        self._end_outage()

    def terminate(self, number: signal.Signals) -> None:
        """Send a terminating signal and wait until the server has exited."""
        self._begin_outage()
        self.up = False
        if self.server.daemon is not None:
            self.server.daemon.signal(number)
            self.server.daemon.wait()

    def freeze(self) -> None:
        """SIGSTOP the server and its sessions: it neither answers nor closes connections."""
        self._begin_outage()
        self._signal(signal.SIGSTOP)
        self.up, self.frozen = False, True

    def thaw(self) -> None:
        """SIGCONT the server and its sessions."""
        self._signal(signal.SIGCONT)
        self.up, self.frozen = True, False
        self._end_outage()

    def stop(self) -> None:
        """Stop the server, whatever its state."""
        if self.server.daemon is not None and self.server.daemon.alive():
            self._signal(signal.SIGCONT)
            self.server.ask_to_stop()
            self.server.daemon.wait()

    def _signal(self, number: signal.Signals) -> None:
        daemon = self.server.daemon
        if daemon is None:
            return
        daemon.signal(number)
        # Each session of Postgres is a process, which goes on while only the server is stopped.
        for child in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)

    def _begin_outage(self) -> None:
        self._since = self._since or datetime.now(UTC)

    def _end_outage(self) -> None:
        if self._since is not None:
            self.outages.append((self._since, datetime.now(UTC)))
            self._since = None


class Servers:
    """Both servers, in one folder. Use from the main thread: the servers exit with it."""

    def __init__(self, folder: Path) -> None:
        self._place, self._lock = _lock_folder(folder)
        run, data, log = self._place.run, self._place.data_dir, self._place.log
        self.postgres = Server(
            Postgres(data / "postgres", sockets=run / "postgres", log=log / "postgres.log")
        )
        self.redis = Server(
            Redis(data / "redis", socket_path=run / "redis.sock", log=log / "redis.log")
        )

    @property
    def database_url(self) -> str:
        """The DSN of the database, for asyncpg."""
        return self.postgres.server.url

    @property
    def redis_url(self) -> str:
        """The URL of Redis, for redis-py."""
        return self.redis.server.url

    def start(self) -> None:
        """Start both servers and create the schema."""
        self.postgres.start()
        self.redis.start()
        migrations.upgrade(self.database_url)

    def flush(self) -> None:
        """Empty Redis."""
        with Client.from_url(self.redis_url) as client:  # pyright: ignore[reportUnknownMemberType]
            client.flushall()  # pyright: ignore[reportUnknownMemberType]

    def stop(self) -> None:
        """Stop both servers; the folder can be removed afterwards."""
        self.redis.stop()
        self.postgres.stop()
        self._place.clear_run()
        os.close(self._lock)


def _lock_folder(folder: Path) -> tuple[ServerDirectories, int]:
    place = prepare_directories(folder)
    lock = place.try_lock()
    if lock is None:
        raise RuntimeError(f"{folder} is in use")
    place.recreate_run()
    allow_traversal(place.data_dir, place.run)
    return place, lock


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Poll `done` every 20 ms for up to `seconds`; returns whether it became true."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
