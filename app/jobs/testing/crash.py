"""The crash test of a job: a worker dies at each moment of a run, and another finishes it."""

import asyncio
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from app.jobs.testing.lab import START, Given, Lab, job_of, open_lab, private_servers
from app.jobs.testing.web import PretendWeb
from app.ledger import proof
from app.ledger.decide import decide_schedule
from app.store.servers import ServerUrls
from workers.job import Job
from workers.sweep import requeue_expired

# Where the worker dies, in the order of a run; and where it is stopped as by SIGTERM.
CONTRACT_MOMENTS = (
    "after_tick_insert",
    "after_commit_before_enqueue",
    "after_enqueue",
    "after_claim",
    "after_write_1",
    "after_write_2",
    "after_write_3",
    "before_outcome",
    "after_outcome",
    "stopped_in_function",
    "stopped_after_write_1",
)
FIRST_OF_A_RUN = 3  # the moments before are those of a tick
AFTER_LEASE = timedelta(minutes=20)
CHILD_SECONDS = 60.0
MAX_ATTEMPTS = 5
IGNORED = ("run_id", "page_order", "id")  # columns that differ between any two runs
KILLED = -9
STOPPED = 3  # the victim's exit code if it was stopped


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What the crash test found. `reached`: the moments at which the worker died or was stopped.

    `faults`: what was wrong after which moment; empty if the job is safe to repeat.
    """

    reached: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Left:
    """What a run left behind."""

    status: str
    error: str | None
    runs: int
    ticks: int
    accounted: bool
    tables: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


async def contract(
    declared: Any,
    *,
    web: PretendWeb | None = None,
    at: datetime | None = None,
    ignore: Collection[str] = (),
    settings: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> CrashReport:
    """Kill or stop a worker at each moment of the job's run, and let another finish the run.

    Afterwards there must be one tick, one run, of the same status, and the same rows in the job's
    tables and in `items` as after a run that nobody disturbed. `at`: the tick; the first after noon
    of 2 March 2026 if not given. `ignore`: columns that may differ. `settings`, `secrets`: as of
    `lab`. The job must be at the top level of a file. Raises AssertionError, which lists what
    differs after which moment.
    """
    job, pages, given = job_of(declared), web or PretendWeb(), Given(settings, secrets)
    reached: list[str] = []
    faults: list[str] = []
    async with private_servers() as servers:
        async with open_lab(job, await servers.empty(), pages, START, given) as calm_lab:
            scheduled = bool(job.declared(calm_lab.context.config))
            tick = at or (calm_lab.declared().schedule.next(START) if scheduled else START)
            await (calm_lab.tick(tick) if scheduled else calm_lab.run())
            calm = await _left(calm_lab, ignore)
        for moment in CONTRACT_MOMENTS if scheduled else CONTRACT_MOMENTS[FIRST_OF_A_RUN:]:
            urls = await servers.empty()
            order = _Order(job, urls, pages, tick, moment, given, scheduled=scheduled)
            if await _killed(order):
                reached.append(moment)
                faults += [f"{moment}: {fault}" for fault in await _finish(order, calm, ignore)]
    report = CrashReport(tuple(reached), tuple(faults))
    if faults:
        raise AssertionError(f"{job.name} is not safe to repeat:\n" + "\n".join(faults))
    return report


@dataclass(frozen=True, slots=True)
class _Order:
    """One case: the job, where it runs, and the moment at which its worker dies."""

    job: Job
    urls: ServerUrls
    web: PretendWeb
    tick: datetime
    moment: str
    given: Given
    scheduled: bool

    def text(self) -> str:
        """The order for the process that dies."""
        return json.dumps(
            {
                "file": str(Path(self.job.defined_at.file).resolve()),
                "module": self.job.function.__module__,
                "job": self.job.name,
                "database": self.urls.database,
                "redis": self.urls.redis,
                "web": self.web.dump(),
                "tick": self.tick.isoformat(),
                "moment": self.moment,
                "settings": dict(self.given.settings or {}),
                "secrets": dict(self.given.secrets or {}),
                "scheduled": self.scheduled,
            }
        )


async def _killed(order: _Order) -> bool:
    """Whether the worker died or stopped at the moment; false if the run did not reach it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.jobs.testing.victim"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(CHILD_SECONDS):
        _, said = await process.communicate(order.text().encode())
    if process.returncode not in (0, KILLED, STOPPED):
        raise AssertionError(f"the worker of {order.moment} failed:\n{said.decode()[-2000:]}")
    return process.returncode != 0


async def _finish(order: _Order, calm: _Left, ignore: Collection[str]) -> list[str]:
    """Do what other workers do after a death; returns how what is left differs from `calm`."""
    later = order.tick + AFTER_LEASE
    async with open_lab(order.job, order.urls, order.web, later, order.given) as opened:
        await requeue_expired(opened.context)
        if order.scheduled:
            await decide_schedule(opened.context.pool, order.job.name, order.tick)
        opened.clock.now = order.tick  # so that what the job dates is as it was
        for _ in range(MAX_ATTEMPTS):
            queued: UUID | None = await opened.context.pool.fetchval(
                "SELECT execution_id FROM runs WHERE status = 'queued' ORDER BY queued_at LIMIT 1"
            )
            if queued is None:
                break
            await opened.execute(queued)
        return _differences(await _left(opened, ignore), calm)


async def _left(opened: Lab, ignore: Collection[str]) -> _Left:
    runs = await opened.rows("SELECT status, error_message FROM runs")
    ticks = await opened.rows("SELECT 1 FROM ticks WHERE outcome = 'ran'")
    accounts = await proof.verify(opened.context.pool, opened.clock())
    names = [str(getattr(table, "__tablename__", "")) for table in opened.job.tables]
    tables = {name: await _rows(opened, name, ignore) for name in [*names, "items"]}
    row: dict[str, Any] = runs[0] if runs else {"status": "none", "error_message": None}
    accounted = all(account.consistent for account in accounts)
    return _Left(row["status"], row["error_message"], len(runs), len(ticks), accounted, tables)


async def _rows(opened: Lab, table: str, ignore: Collection[str]) -> list[str]:
    rows = await opened.rows(
        f'SELECT (to_jsonb(t) - $1::text[])::text AS row FROM "{table}" t ORDER BY 1',  # noqa: S608 - names of tables
        [*IGNORED, *ignore],
    )
    return [row["row"] for row in rows]


def _differences(left: _Left, calm: _Left) -> list[str]:
    faults: list[str] = []
    if (left.runs, left.ticks) != (calm.runs, calm.ticks):
        faults.append(f"{left.ticks} ticks ran and there are {left.runs} runs, not {calm.runs}")
    if left.status != calm.status:
        faults.append(f"the run ended as {left.status}, not as {calm.status}: {left.error}")
    if not left.accounted:
        faults.append("the ticks do not add up: see `verify`")
    for name, rows in calm.tables.items():
        more = [row for row in left.tables[name] if row not in rows]
        less = [row for row in rows if row not in left.tables[name]]
        if more or less or len(rows) != len(left.tables[name]):
            shown = "; ".join(
                [*(f"+ {row[:200]}" for row in more), *(f"- {r[:200]}" for r in less)]
            )
            faults.append(f"{name} has {len(left.tables[name])} rows, not {len(rows)}: {shown}")
    return faults
