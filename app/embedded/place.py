"""Where the private servers live: DATA_DIR, and a runtime folder short enough for socket paths."""

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

from app.embedded import launch
from app.errors import ServersUnavailable

# Nothing that a URL, a list of hosts or a configuration file would want quoted.
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
_LONGEST_NAME = "postgres/.s.PGSQL.5432"
_PREFIX = "rollcall-"
_INSTEAD = "set DATA_DIR to a folder that you can write, or set DATABASE_URL and REDIS_URL"


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one pair of servers. `data_dir` is absolute, without symlinks."""

    data_dir: Path

    @property
    def log(self) -> Path:
        return self.data_dir / "log"

    @property
    def lock(self) -> Path:
        return self.data_dir / "keeper.lock"

    @property
    def run(self) -> Path:
        """The runtime folder as it really is: DATA_DIR/run, or the short one that it links to."""
        return (self.data_dir / "run").resolve()

    @property
    def door(self) -> Path:
        """The keeper's socket, which users hold on to."""
        return self.run / "keeper.sock"

    def try_lock(self) -> int | None:
        """The keeper's lock as a file descriptor, or None while a keeper has it.

        It lives as long as the descriptor and its copies in child processes do.
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
                f"{_INSTEAD}"
            ) from error
        return lock

    def holds(self, lock: int) -> bool:
        """Is the lock still that of this folder, or was the folder removed under our feet?"""
        try:
            return os.path.samestat(self.lock.stat(), os.fstat(lock))
        except OSError:
            return False

    def renew_run(self) -> None:
        """A fresh runtime folder, whatever a keeper that was killed left. Needs the lock."""
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
            f"no folder for sockets: neither {local} nor {parent} takes a Unix socket; {_INSTEAD}"
        )

    def clear_run(self) -> None:
        """Remove the runtime folder. Needs the lock."""
        local, real = self.data_dir / "run", self.run
        if local.is_symlink():
            local.unlink()
            if not real.name.startswith(_PREFIX):
                return
        if _made_by(real, {os.geteuid()}):
            shutil.rmtree(real)

    def trusted(self) -> bool:
        """Is there a runtime folder, made by us or by whoever DATA_DIR belongs to?"""
        return _made_by(self.run, {os.geteuid(), self.data_dir.stat().st_uid})


def settle(data_dir: Path) -> Place:
    """Make DATA_DIR if need be. Raises ServersUnavailable when it cannot be written."""
    try:
        place = Place(data_dir.resolve())
        place.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.log.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ServersUnavailable(
            f"DATA_DIR {data_dir} cannot be written ({error.strerror}): {_INSTEAD}"
        ) from error
    return place


def let_through(*folders: Path) -> None:
    """As root without ambient capabilities: Postgres' account must be able to pass our folders."""
    if os.geteuid() == 0 and not launch.can_carry_traversal():
        for folder in folders:
            folder.chmod(folder.stat().st_mode | 0o011)


def _takes_sockets(folder: Path) -> bool:
    """Make the folder and try; if it will not do, remove it again."""
    probe = folder / _LONGEST_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    probe.parent.mkdir(mode=0o700)
    try:
        with socket.socket(socket.AF_UNIX) as trial:
            trial.bind(str(probe))
        probe.unlink()
        if _PLAIN.fullmatch(str(folder)):
            return True
    except OSError:  # too long, or a file system without sockets
        pass
    shutil.rmtree(folder)
    return False


def _made_by(folder: Path, makers: Collection[int]) -> bool:
    try:
        seen = folder.lstat()
    except OSError:
        return False
    shared = seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid in makers and not shared
