"""A private Postgres and Redis for DATA_DIR, shared by every process that asks, gone with the last.

`launch` is the last step before a server runs, `process` knows processes, `place` folders,
`postgres` and `redis` their servers, and `keeper` is the process that holds it all together.
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

from app.embedded.place import Place, settle
from app.embedded.process import READY_SECONDS, last_words, turn_over
from app.errors import ServersUnavailable

_PROJECT = Path(__file__).resolve().parents[2]
_RETRY_SECONDS = 0.05
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class Servers:
    """Both addresses, usable as long as this process lives or until `close`.

    `database_url` is a DSN for asyncpg, `redis_url` one for redis-py and arq.
    """

    database_url: str
    redis_url: str
    data_dir: Path
    _hold: int

    def close(self) -> None:
        """Let go. The servers stop when everybody has. Closing twice is fine."""
        with _guard:
            if _held.get(self.data_dir) is self:
                del _held[self.data_dir]
                os.close(self._hold)

    def alive(self) -> bool:
        """Does the keeper still know us? It never speaks twice: readable means gone."""
        poll = select.poll()
        poll.register(self._hold, select.POLLIN)
        return not poll.poll(0)


# Per process on purpose: who drops the object must not lose the servers under its feet.
_held: dict[Path, Servers] = {}
_guard = threading.RLock()


def start(data_dir: Path) -> Servers:
    """Find or start the servers of `data_dir`; returns when both are ready.

    Asked again in the same process it gives the same answer. Raises ServersUnavailable with one
    sentence that says what to do.
    """
    place = settle(data_dir)
    with _guard:
        held = _held.get(place.data_dir)
        if held is not None:
            if held.alive():
                return held
            held.close()
        return _held.setdefault(place.data_dir, _join(place))


def _join(place: Place) -> Servers:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        lock = place.try_lock()
        if lock is not None:
            return _found(place, lock)
        servers = _greeted(place, _connected(place))
        if servers is not None:
            return servers
        time.sleep(_RETRY_SECONDS)
    raise ServersUnavailable(
        f"the private servers of {place.data_dir} did not answer in {READY_SECONDS:.0f} s; "
        f"{last_words(place.log / 'keeper.log')}"
    )


def _found(place: Place, lock: int) -> Servers:
    """Start a keeper, which inherits the lock and a socket that we already wait at."""
    try:
        place.renew_run()
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(place.door))
            door.listen(_BACKLOG)
            connection = _connected(place)
            _start_keeper(place, lock, door.fileno())
    except OSError as error:
        raise ServersUnavailable(
            f"the private servers of {place.data_dir} cannot be started: {error}"
        ) from error
    finally:
        os.close(lock)
    servers = _greeted(place, connection)
    if servers is None:
        raise ServersUnavailable(
            "the keeper of the private servers died while starting them, try again: "
            f"{last_words(place.log / 'keeper.log')}"
        )
    return servers


def _start_keeper(place: Place, lock: int, door: int) -> None:
    log = place.log / "keeper.log"
    turn_over(log)
    with log.open("ab") as words:
        subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "app.embedded", str(place.data_dir), str(lock), str(door)],
            cwd=_PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            pass_fds=(lock, door),
            start_new_session=True,
            check=True,
        )


def _connected(place: Place) -> socket.socket | None:
    if not place.trusted():
        return None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(READY_SECONDS)
    try:
        connection.connect(str(place.door))
    except OSError:
        connection.close()
        return None
    return connection


def _greeted(place: Place, connection: socket.socket | None) -> Servers | None:
    """The keeper's word, or None if it went away without one."""
    if connection is None:
        return None
    with connection:
        try:
            words = connection.makefile("rb").readline()
        except OSError:
            return None
        if not words.endswith(b"\n"):
            return None
        answer: dict[str, str] = json.loads(words)
        if "error" in answer:
            raise ServersUnavailable(answer["error"])
        return Servers(**answer, data_dir=place.data_dir, _hold=connection.detach())
