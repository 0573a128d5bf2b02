"""The keeper: starts the pair, stays while anybody holds on to its socket, stops it, goes.

A process of its own in a session of its own, so that neither Ctrl-C in somebody's terminal nor
the end of whoever came first takes the servers from the others.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from app.embedded.place import Place, let_through
from app.embedded.postgres import Postgres
from app.embedded.redis import Redis
from app.errors import ServersUnavailable

FIRST_USER_SECONDS = 10.0
LINGER_SECONDS = 2.0
_WATCH_SECONDS = 1.0


class Pair:
    """Both servers of a place."""

    def __init__(self, place: Place) -> None:
        run = place.run
        self.postgres = Postgres(
            place.data_dir / "postgres", sockets=run / "postgres", log=place.log / "postgres.log"
        )
        self.redis = Redis(
            place.data_dir / "redis", door=run / "redis.sock", log=place.log / "redis.log"
        )
        self._both = (self.redis, self.postgres)

    def start(self) -> None:
        """Block until both are ready. Raises ServersUnavailable."""
        for server in self._both:
            server.prepare()
        for server in self._both:
            server.launch()
        for server in self._both:
            server.wait_ready()

    def mend(self) -> None:
        """Start again what has died."""
        for server in self._both:
            if server.daemon is None or not server.daemon.alive():
                say(f"{type(server).__name__} is gone, starting it again")
                server.launch()
                server.wait_ready()

    def stop(self) -> None:
        for server in self._both:
            server.ask_to_stop()
        for server in self._both:
            if server.daemon:
                server.daemon.wait()


class Users:
    """Who holds on: one connection each. A process that ends in any way lets go."""

    def __init__(self, door: socket.socket, greeting: bytes) -> None:
        self._door = door
        self._greeting = greeting
        self._selector = selectors.DefaultSelector()
        self._selector.register(door, selectors.EVENT_READ)
        self._alone_since: float | None = None
        self._patience = FIRST_USER_SECONDS

    def watch(self, seconds: float) -> None:
        """Let in who comes and forget who goes, for up to `seconds`."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._door:
                self._let_in()
            elif isinstance(key.fileobj, socket.socket):
                self._forget_if_gone(key.fileobj)

    def lingering(self) -> bool:
        """Is anybody here, or may somebody come back in a moment?"""
        if len(self._selector.get_map()) > 1:
            self._alone_since = None
            self._patience = LINGER_SECONDS
            return True
        if self._alone_since is None:
            self._alone_since = time.monotonic()
        return time.monotonic() - self._alone_since < self._patience

    def _let_in(self) -> None:
        user, _ = self._door.accept()
        try:
            user.sendall(self._greeting)
        except OSError:
            user.close()
            return
        self._selector.register(user, selectors.EVENT_READ)

    def _forget_if_gone(self, user: socket.socket) -> None:
        try:
            said = user.recv(64)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(user)
            user.close()


def keep(place: Place, lock: int, door: socket.socket) -> None:
    """Start the pair, tell whoever asks, and stop it when nobody is left."""
    pair = Pair(place)
    try:
        let_through(place.data_dir, place.run)
        pair.start()
        say("ready")
        urls = {"database_url": pair.postgres.url, "redis_url": pair.redis.url}
        _serve(pair, Users(door, _line(urls)), place, lock)
    except (ServersUnavailable, OSError) as error:
        say(str(error))
        Users(door, _line({"error": str(error)})).watch(0)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("stopping")
        # Closed first: who comes now waits for the lock, and starts anew.
        door.close()
        pair.stop()
        if place.holds(lock):
            place.clear_run()
        say("stopped")


def _serve(pair: Pair, users: Users, place: Place, lock: int) -> None:
    while users.lingering() and place.holds(lock):
        users.watch(_WATCH_SECONDS)
        try:
            pair.mend()
        except (ServersUnavailable, OSError) as error:
            say(str(error))


def _line(words: dict[str, str]) -> bytes:
    return json.dumps(words).encode() + b"\n"


def say(words: str) -> None:
    """A line in the keeper's log: its standard error."""
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} keeper {os.getpid()}: {words}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> None:
    """DATA_DIR, and the descriptors of the lock and of the listening socket, both inherited."""
    data_dir, lock, door = arguments
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with socket.socket(fileno=int(door)) as listening:
        keep(Place(Path(data_dir)), int(lock), listening)


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    sys.exit(0)
