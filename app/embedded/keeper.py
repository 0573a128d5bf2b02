"""The keeper: supervises the private servers while any process is connected to its socket.

It is a separate process in its own session, so that neither Ctrl-C in a terminal nor the end of
the process that started it stops the servers for the others.
"""

import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from app.core.errors import ServersUnavailable
from app.embedded.place import ServerDirectories, allow_traversal
from app.embedded.postgres import Postgres
from app.embedded.redis import Redis

FIRST_USER_SECONDS = 10.0
LINGER_SECONDS = 2.0
_WATCH_SECONDS = 1.0


class ServerPair:
    """Postgres and Redis in the directories of a place."""

    def __init__(self, place: ServerDirectories) -> None:
        run = place.run
        self.postgres = Postgres(
            place.data_dir / "postgres", sockets=run / "postgres", log=place.log / "postgres.log"
        )
        self.redis = Redis(
            place.data_dir / "redis", socket_path=run / "redis.sock", log=place.log / "redis.log"
        )
        self._both = (self.redis, self.postgres)

    def start(self) -> None:
        """Start both and block until they are ready. Raises ServersUnavailable."""
        for server in self._both:
            server.prepare()
        for server in self._both:
            server.launch()
        for server in self._both:
            server.wait_ready()

    def restart_ended(self) -> None:
        """Restart each server that has ended. Raises ServersUnavailable."""
        for server in self._both:
            if server.daemon is None or not server.daemon.alive():
                log_line(f"{type(server).__name__} has ended, restarting it")
                server.launch()
                server.wait_ready()
                if isinstance(server, Redis) and server.notice:
                    log_line(server.notice)

    def stop(self) -> None:
        for server in self._both:
            server.ask_to_stop()
        for server in self._both:
            if server.daemon:
                server.daemon.wait()


class Users:
    """The connected processes, one connection each. The kernel closes it when a process ends."""

    def __init__(self, listener: socket.socket, greeting: bytes) -> None:
        self._listener = listener
        self._greeting = greeting
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._idle_since: float | None = None
        self._idle_limit = FIRST_USER_SECONDS

    def watch(self, seconds: float) -> None:
        """Handle new and closed connections, waiting up to `seconds` for one."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.fileobj, socket.socket):
                self._remove_if_closed(key.fileobj)

    def in_use(self) -> bool:
        """Return whether a process is connected, or was within the last LINGER_SECONDS."""
        if len(self._selector.get_map()) > 1:
            self._idle_since = None
            self._idle_limit = LINGER_SECONDS
            return True
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since < self._idle_limit

    def _accept(self) -> None:
        user, _ = self._listener.accept()
        try:
            user.sendall(self._greeting)
        except OSError:
            user.close()
            return
        self._selector.register(user, selectors.EVENT_READ)

    def _remove_if_closed(self, user: socket.socket) -> None:
        try:
            received = user.recv(64)
        except OSError:
            received = b""
        if not received:
            self._selector.unregister(user)
            user.close()


def keep(place: ServerDirectories, lock: int, listener: socket.socket) -> None:
    """Start the servers, send their URLs to each user, and stop them after the last one."""
    pair = ServerPair(place)
    try:
        allow_traversal(place.data_dir, place.run)
        pair.start()
        log_line("ready")
        if pair.redis.notice:
            log_line(pair.redis.notice)
        urls = {
            "database_url": pair.postgres.url,
            "redis_url": pair.redis.url,
            "notice": pair.redis.notice,
        }
        _serve(pair, Users(listener, _line(urls)), place, lock)
    except (ServersUnavailable, OSError) as error:
        log_line(str(error))
        Users(listener, _line({"error": str(error)})).watch(0)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        log_line("stopping")
        # Closed first: a process that connects now waits for the lock and starts a new keeper.
        listener.close()
        pair.stop()
        if place.holds(lock):
            place.clear_run()
            if place.discard_marker.exists():
                shutil.rmtree(place.data_dir, ignore_errors=True)
        log_line("stopped")


def _serve(pair: ServerPair, users: Users, place: ServerDirectories, lock: int) -> None:
    while users.in_use() and place.holds(lock):
        users.watch(_WATCH_SECONDS)
        try:
            pair.restart_ended()
        except (ServersUnavailable, OSError) as error:
            log_line(str(error))


def _line(message: Mapping[str, str | None]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def log_line(message: str) -> None:
    """Write a line to the keeper's log: its standard error."""
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} keeper {os.getpid()}: {message}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> None:
    """Run the keeper. Arguments: DATA_DIR, and the descriptors of the lock and of the listener."""
    data_dir, lock, listener = arguments
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with socket.socket(fileno=int(listener)) as inherited:
        keep(ServerDirectories(Path(data_dir)), int(lock), inherited)


def _exit(number: int, frame: FrameType | None) -> None:
    del number, frame
    sys.exit(0)
