"""Server processes: started, watched, stopped, and found again when their keeper is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.embedded import launch
from app.errors import ServersUnavailable

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
LOG_BYTES = 5_000_000
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as, when it is not the one who starts it."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, in which folder, as whom (None: as ourselves), and where its words go."""

    words: Sequence[str]
    folder: Path
    log: Path
    account: Account | None = None

    def launched(self) -> list[str]:
        """The words, led by the launcher, which must be a direct child of this process."""
        account = self.account
        ids = [launch.SAME_ACCOUNT] * 2 if account is None else [str(account.uid), str(account.gid)]
        stage = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
        return [*stage, *ids, *self.words]

    def run(self, stdin: bytes = b"") -> None:
        """Run to the end. Raises ServersUnavailable with the last words if it fails."""
        with self.log.open("ab") as log:
            begun = log.tell()
            done = subprocess.run(  # noqa: S603 - our own words, no shell
                self.launched(), cwd=self.folder, input=stdin, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            raise ServersUnavailable(f"{_name(self)} failed: {last_words(self.log, begun)}")


class Daemon:
    """A running server. Die it will with the thread that started it (Linux)."""

    def __init__(self, command: Command) -> None:
        self.command = command
        with command.log.open("ab") as log:
            self._begun = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own words, no shell
                command.launched(),
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
        """Raises ServersUnavailable if it dies first, or is not ready in READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if not self.alive():
                words = last_words(self.command.log, self._begun)
                raise ServersUnavailable(f"{_name(self.command)} did not start: {words}")
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
        """Wait for the end; help after STOP_SECONDS."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as the kernel would: no goodbye."""
        self._process.kill()
        self._process.wait()


def _name(command: Command) -> str:
    return Path(command.words[0]).name


def last_words(log: Path, begun: int = 0) -> str:
    """The last lines of a log, from byte `begun` on, as one line, and where to read on."""
    try:
        text = log.read_bytes()[begun:][-4000:].decode(errors="replace")
    except OSError:
        text = ""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{' / '.join(said[-3:]) or 'no word'} (see {log})"


def turn_over(log: Path) -> None:
    """Begin a new log when the old one is long; the old one is kept beside it."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))


def end_orphans(folder: Path, names: Collection[str]) -> None:
    """End servers left running in `folder` by a keeper that was killed. Call only under its lock.

    Without goodbye: what a server owes its data after that, it owes after a power cut too.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while pids := list(_working_in(folder, names)):
        if time.monotonic() > deadline:
            raise ServersUnavailable(
                f"a left-over server (process {pids[0]}) still uses {folder} and cannot be ended; "
                "end it by hand"
            )
        for pid in pids:
            _end(pid)
        time.sleep(_POLL_SECONDS)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _working_in(folder: Path, names: Collection[str]) -> list[int]:
    if Path("/proc/self/exe").exists():
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return [pid for pid in pids if _works_in(pid, folder, names)]
    return _listed_with(folder, names)


def _works_in(pid: int, folder: Path, names: Collection[str]) -> bool:
    """Both servers make their data folder their working directory. A shell there is not meant."""
    here = Path("/proc", str(pid))
    try:
        return (here / "cwd").samefile(folder) and (here / "exe").readlink().name in names
    except OSError:
        return False


def _listed_with(folder: Path, names: Collection[str]) -> list[int]:
    """Where there is no /proc: by the command line, which names the folder."""
    listing = subprocess.run(
        ["ps", "-axo", "pid=,command="],  # noqa: S607 - wherever the system keeps it
        capture_output=True,
        text=True,
        check=False,
    )
    found: list[int] = []
    for line in listing.stdout.splitlines():
        pid, _, words = line.strip().partition(" ")
        if str(folder) in words and any(f"/{name} " in words for name in names):
            found.append(int(pid))
    return found
