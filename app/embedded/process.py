"""Starts, monitors and stops server processes, and ends those left by a killed keeper."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ServersUnavailable
from app.embedded import launch

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
LOG_BYTES = 5_000_000
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ServerAccount:
    """The account that a server runs as, if it differs from the present one."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, its working directory, its log, and its account (None: the present one)."""

    arguments: Sequence[str]
    folder: Path
    log: Path
    account: ServerAccount | None = None

    def command_line(self) -> list[str]:
        """Return the command line with the launcher, which must be a child of this process."""
        account = self.account
        ids = [launch.SAME_ACCOUNT] * 2 if account is None else [str(account.uid), str(account.gid)]
        stage = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
        return [*stage, *ids, *self.arguments]

    def run(self, stdin: bytes = b"") -> None:
        """Run to completion. Raises ServersUnavailable with the last log lines if it fails."""
        with self.log.open("ab") as log:
            start = log.tell()
            result = subprocess.run(  # noqa: S603 - fixed arguments, no shell
                self.command_line(),
                cwd=self.folder,
                input=stdin,
                stdout=log,
                stderr=log,
                check=False,
            )
        if result.returncode:
            raise ServersUnavailable(f"{_name(self)} failed: {last_lines(self.log, start)}")


class Daemon:
    """A running server. On Linux it is killed when the thread that started it ends."""

    def __init__(self, command: Command) -> None:
        self.command = command
        with command.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
                command.command_line(),
                cwd=command.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Block until `ready()`. Raises ServersUnavailable if it ends or takes READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if not self.alive():
                lines = last_lines(self.command.log, self._log_start)
                raise ServersUnavailable(f"{_name(self.command)} did not start: {lines}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServersUnavailable(
                    f"{_name(self.command)} was not ready after {READY_SECONDS:.0f} s; "
                    f"see {self.command.log}"
                )
            time.sleep(_POLL_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> None:
        """Wait for the process to end; kill it after STOP_SECONDS."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self._process.kill()
        self._process.wait()


def _name(command: Command) -> str:
    return Path(command.arguments[0]).name


def last_lines(log: Path, start: int = 0) -> str:
    """Return the last three lines of a log from byte `start` on, as one line with its path."""
    try:
        text = log.read_bytes()[start:][-4000:].decode(errors="replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{' / '.join(lines[-3:]) or 'no output'} (see {log})"


def rotate_log(log: Path) -> None:
    """Rotate the log if it exceeds LOG_BYTES; one old log is kept beside it."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))


def kill_orphans(folder: Path, names: Collection[str]) -> None:
    """Kill servers left running in `folder` by a keeper that was killed. Needs the keeper's lock.

    SIGKILL is safe: the servers recover as they do after a power failure. Raises ServersUnavailable
    if one still runs after STOP_SECONDS.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while pids := list(_running_in(folder, names)):
        if time.monotonic() > deadline:
            raise ServersUnavailable(
                f"a left-over server (process {pids[0]}) still uses {folder} and cannot be killed; "
                "kill it by hand"
            )
        for pid in pids:
            _kill(pid)
        time.sleep(_POLL_SECONDS)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _running_in(folder: Path, names: Collection[str]) -> list[int]:
    if Path("/proc/self/exe").exists():
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in pids if _runs_in(pid, folder, names)]
    return _listed_by_ps(folder, names)


def _runs_in(pid: int, folder: Path, names: Collection[str]) -> bool:
    """Return whether a server runs in `folder`: both change into their data directory."""
    process = Path("/proc", str(pid))
    try:
        return (process / "cwd").samefile(folder) and (process / "exe").readlink().name in names
    except OSError:
        return False


def _listed_by_ps(folder: Path, names: Collection[str]) -> list[int]:
    """Find servers by their command line, which contains the directory, where there is no /proc."""
    listing = subprocess.run(
        ["ps", "-axo", "pid=,command="],  # noqa: S607 - its path depends on the system
        capture_output=True,
        text=True,
        check=False,
    )
    found: list[int] = []
    for line in listing.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        if str(folder) in command and any(f"/{name} " in command for name in names):
            found.append(int(pid))
    return found
