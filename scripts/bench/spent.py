"""What a worker with its child processes, and Postgres, have spent so far."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app.store.db import Connection, Pool

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
WAL = "SELECT pg_backend_pid(), (pg_current_wal_insert_lsn() - '0/0')::float8 / 1000"


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds, those of Postgres, and kilobytes of its log.

    CPU time, because on a machine that does something else too a statement takes longer.
    """

    cpu: float = 0.0
    postgres: float = 0.0
    wal_kb: float = 0.0

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(
            self.cpu - before.cpu, self.postgres - before.postgres, self.wal_kb - before.wal_kb
        )


async def spent(pool: Pool | Connection, cpu: float) -> Spent:
    """What the Postgres of this machine has spent, beside the CPU seconds given."""
    backend, wal_kb = await pool.fetchrow(WAL) or (0, 0.0)
    return Spent(cpu, cpu_seconds(_parent(backend)), wal_kb)


async def spent_by(database: str, pid: int) -> Spent:
    """What the process with all below it has spent, and Postgres, asked at this URL."""
    connection = await asyncpg.connect(database)
    try:
        return await spent(connection, cpu_seconds(pid))
    finally:
        await connection.close()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for below in (thread / "children").read_text().split():
                found += tree(int(below))
    return found


def memory_mb(pid: int) -> float:
    """The resident memory of one process."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
    return 0.0


def cpu_seconds(pid: int) -> float:
    """CPU seconds, user and system, of the process and all below it, also of those that ended."""
    return sum(_cpu_seconds(each) for each in tree(pid))


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / CLOCK_TICKS
    return 0.0
