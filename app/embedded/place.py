"""The directories of the private servers: DATA_DIR, and a runtime directory for sockets."""

import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ServersUnavailable
from app.embedded import launch

# Characters that need no quoting in a URL, a list of hosts or a configuration file.
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
_LONGEST_NAME = "postgres/.s.PGSQL.5432"
_PREFIX = "rollcall-"
_FIX = "set DATA_DIR to a writable directory, or set DATABASE_URL and REDIS_URL"


@dataclass(frozen=True, slots=True)
class ServerDirectories:
    """The directories of one pair of servers. `data_dir` is absolute, without symlinks."""

    data_dir: Path

    @property
    def log(self) -> Path:
        return self.data_dir / "log"

    @property
    def lock(self) -> Path:
        return self.data_dir / "keeper.lock"

    @property
    def discard_marker(self) -> Path:
        """The file that says that the directory is deleted when the servers have stopped."""
        return self.data_dir / "discard"

    @property
    def run(self) -> Path:
        """The runtime directory: DATA_DIR/run, or the one with a shorter path that it links to."""
        return (self.data_dir / "run").resolve()

    @property
    def keeper_socket(self) -> Path:
        """The keeper's socket, to which users stay connected."""
        return self.run / "keeper.sock"

    def try_lock(self) -> int | None:
        """Return the keeper's lock as a file descriptor, or None while a keeper holds it.

        The lock is held until the descriptor and its copies in child processes are closed. Raises
        ServersUnavailable if the file system has no locks.
        """
        lock = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError as error:
            os.close(lock)
            raise ServersUnavailable(
                f"DATA_DIR {self.data_dir} is on a file system without locks ({error.strerror}): "
                f"{_FIX}"
            ) from error
        return lock

    def holds(self, lock: int) -> bool:
        """Return whether the lock is still that of this directory, which may have been replaced."""
        try:
            return os.path.samestat(self.lock.stat(), os.fstat(lock))
        except OSError:
            return False

    def recreate_run(self) -> None:
        """Create an empty runtime directory, also after a keeper was killed. Needs the lock.

        Raises ServersUnavailable if no directory is suitable for Unix sockets.
        """
        self.clear_run()
        local = self.data_dir / "run"
        if _takes_sockets(local):
            return
        for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - made by mkdtemp
            short = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).resolve()
            if _takes_sockets(short):
                local.symlink_to(short, target_is_directory=True)
                return
        raise ServersUnavailable(
            f"no directory for sockets: neither {local} nor {parent} accepts a Unix socket; {_FIX}"
        )

    def clear_run(self) -> None:
        """Remove the runtime directory. Needs the lock."""
        local, real = self.data_dir / "run", self.run
        if local.is_symlink():
            local.unlink()
            if not real.name.startswith(_PREFIX):
                return
        if _owned_by(real, {os.geteuid()}):
            shutil.rmtree(real)

    def trusted(self) -> bool:
        """Return whether the runtime directory exists and its owner is ours or DATA_DIR's."""
        return _owned_by(self.run, {os.geteuid(), self.data_dir.stat().st_uid})


def prepare_directories(data_dir: Path) -> ServerDirectories:
    """Create DATA_DIR if it is missing. Raises ServersUnavailable if it is not writable."""
    try:
        place = ServerDirectories(data_dir.resolve())
        place.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.log.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ServersUnavailable(
            f"DATA_DIR {data_dir} cannot be written ({error.strerror}): {_FIX}"
        ) from error
    return place


def allow_traversal(*folders: Path) -> None:
    """Let the account of Postgres traverse `folders`, for root without ambient capabilities."""
    if os.geteuid() == 0 and not launch.can_carry_traversal():
        for folder in folders:
            folder.chmod(folder.stat().st_mode | 0o011)


def _takes_sockets(folder: Path) -> bool:
    """Create the directory and try to bind a socket in it; remove it again if that fails."""
    probe = folder / _LONGEST_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    probe.parent.mkdir(mode=0o700)
    try:
        with socket.socket(socket.AF_UNIX) as test:
            test.bind(str(probe))
        probe.unlink()
        if _PLAIN.fullmatch(str(folder)):
            return True
    except OSError:  # too long, or a file system without sockets
        pass
    shutil.rmtree(folder)
    return False


def _owned_by(folder: Path, owners: Collection[int]) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid in owners and not shared
