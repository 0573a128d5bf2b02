"""A private Postgres and Redis in DATA_DIR, shared by all processes that use it.

They stop when the last of these processes has ended. `launch` is executed just before a server,
`process` manages server processes, `place` the directories, `postgres` and `redis` configure the
servers, and `keeper` is the process that supervises them.
"""

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from app.core import log
from app.core.errors import ServersUnavailable
from app.embedded.place import ServerDirectories, prepare_directories
from app.embedded.process import READY_SECONDS, last_lines, rotate_log

_PROJECT = Path(__file__).resolve().parents[2]
_RETRY_SECONDS = 0.05
_BACKLOG = 512

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Servers:
    """The URLs of both servers, valid until `close` or the end of this process.

    `database_url` is a DSN for asyncpg, `redis_url` one for redis-py and arq. `notice`: what the
    operator should know, such as where unreadable data was moved.
    """

    database_url: str
    redis_url: str
    data_dir: Path
    _connection: int
    notice: str | None = None

    def close(self) -> None:
        """Disconnect. The servers stop after the last process has disconnected. Idempotent."""
        with _guard:
            if _open.get(self.data_dir) is self:
                del _open[self.data_dir]
                os.close(self._connection)

    def alive(self) -> bool:
        """Return whether the keeper runs. It sends one line only: readable again means closed."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return not poll.poll(0)


# Module state on purpose: dropping a Servers object must not stop servers that are in use.
_open: dict[Path, Servers] = {}
_guard = threading.RLock()


def start(data_dir: Path, *, discard: bool = False) -> Servers:
    """Connect to the servers of `data_dir`, or start them; return when both are ready.

    `discard`: the directory is deleted when the servers have stopped.
    Returns the same object when called again in this process. Raises ServersUnavailable with one
    sentence that says what to do.
    """
    place = prepare_directories(data_dir)
    if discard:
        place.discard_marker.touch()
    with _guard:
        servers = _open.get(place.data_dir)
        if servers is not None:
            if servers.alive():
                return servers
            servers.close()
        return _open.setdefault(place.data_dir, _join(place))


def _join(place: ServerDirectories) -> Servers:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        lock = place.try_lock()
        if lock is not None:
            return _start_servers(place, lock)
        servers = _receive(place, _connect(place))
        if servers is not None:
            return servers
        time.sleep(_RETRY_SECONDS)
    raise ServersUnavailable(
        f"the private servers of {place.data_dir} did not answer in {READY_SECONDS:.0f} s; "
        f"{last_lines(place.log / 'keeper.log')}"
    )


def _start_servers(place: ServerDirectories, lock: int) -> Servers:
    """Start a keeper, which inherits the lock and the socket to which we are connected already."""
    try:
        place.recreate_run()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place.keeper_socket))
            listener.listen(_BACKLOG)
            connection = _connect(place)
            _start_keeper(place, lock, listener.fileno())
    except OSError as error:
        raise ServersUnavailable(
            f"the private servers of {place.data_dir} cannot be started: {error}"
        ) from error
    finally:
        os.close(lock)
    servers = _receive(place, connection)
    if servers is None:
        raise ServersUnavailable(
            "the keeper of the private servers ended while starting them; try again: "
            f"{last_lines(place.log / 'keeper.log')}"
        )
    if servers.notice:
        _log.warning("redis.data_set_aside", notice=servers.notice)
    return servers


def _start_keeper(place: ServerDirectories, lock: int, listener: int) -> None:
    keeper_log = place.log / "keeper.log"
    rotate_log(keeper_log)
    with keeper_log.open("ab") as output:
        subprocess.run(  # noqa: S603 - this program
            [sys.executable, "-m", "app.embedded", str(place.data_dir), str(lock), str(listener)],
            cwd=_PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock, listener),
            start_new_session=True,
            check=True,
        )


def _connect(place: ServerDirectories) -> socket.socket | None:
    if not place.trusted():
        return None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(READY_SECONDS)
    try:
        connection.connect(str(place.keeper_socket))
    except OSError:
        connection.close()
        return None
    return connection


def _receive(place: ServerDirectories, connection: socket.socket | None) -> Servers | None:
    """Read the keeper's line with the URLs; None if it closed the connection without one."""
    if connection is None:
        return None
    with connection:
        try:
            line = connection.makefile("rb").readline()
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        answer: dict[str, str] = json.loads(line)
        if "error" in answer:
            raise ServersUnavailable(answer["error"])
        return Servers(**answer, data_dir=place.data_dir, _connection=connection.detach())
