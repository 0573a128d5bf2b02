"""Checks after a chaos run: one outcome per tick, no open run, stored records as on the sites."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg

from app.ledger import edit, proof
from app.ledger.proof import TickAccount
from app.scheduling.schedule import Schedule
from app.sources.base import Source
from app.store.db import Pool, open_pool
from app.store.schedules import schedule_rows
from scripts import recount
from scripts.drill import world
from scripts.drill.world import Difference
from scripts.recount import Count

DRAIN_TIMEOUT = 90.0  # seconds until no run may be open any more
MAX_DELAY = timedelta(seconds=5)  # a tick still undecided after so long is unaccounted

OPEN = "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')"

UNDISTURBED_RUN = """
SELECT EXISTS (SELECT FROM runs WHERE status = 'success' AND started_at > $1)
   AND NOT EXISTS (SELECT FROM runs WHERE status IN ('queued', 'running') AND created_at < $1)
"""

BY_STATUS = "SELECT status, count(*) FROM runs GROUP BY status ORDER BY status"

RECOVERY_COUNTS = """
SELECT count(*) FILTER (WHERE status = 'lost') AS lost,
       count(*) FILTER (WHERE status <> 'lost' AND events ? 'lost') AS recovered,
       count(*) FILTER (WHERE events ? 'requeued') AS requeued,
       count(*) FILTER (WHERE events ? 'cancelled') AS handed_over
FROM runs JOIN (SELECT execution_id, jsonb_object_agg(event, true) AS events
                FROM run_events GROUP BY execution_id) AS recorded USING (execution_id)
"""

# A run that ended twice, or whose attempts overlapped in what they may write, would show here.
ENDED_TWICE = """
SELECT count(*) FROM (
  SELECT FROM run_events WHERE event = 'finished'
  GROUP BY execution_id HAVING count(*) > 1) AS twice
"""

EVENTS = """
SELECT execution_id, attempt, event, at, worker FROM run_events ORDER BY execution_id, id
"""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One recorded event of one attempt at a run."""

    run: str
    attempt: int
    event: str
    at: datetime
    pid: int | None


@dataclass(slots=True)
class Findings:
    """What the database shows after the chaos run."""

    expected: int = 0
    unaccounted: int = 0
    duplicates: int = 0
    stuck: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    runs: dict[str, int] = field(default_factory=dict[str, int])
    recovery_counts: dict[str, int] = field(default_factory=dict[str, int])
    events: list[RunEvent] = field(default_factory=list[RunEvent])
    recounted: list[str] = field(default_factory=list[str])
    records: Difference = field(default_factory=Difference)
    drained_in: float | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is unaccounted, duplicated, stuck or different, also by the recount."""
        faults = self.unaccounted or self.duplicates or self.stuck or self.recounted
        return not (faults or self.records.total)


async def drain(dsn: str) -> tuple[int, float | None]:
    """Wait for one undisturbed run, pause every schedule, and wait until no run is open.

    Returns the number of ticks left undecided, and the seconds until nothing was open (None if
    that took longer than the timeout).
    """
    pool = await open_pool(dsn, size=2)
    try:
        began = datetime.now(UTC)
        ran = await _until(lambda: pool.fetchval(UNDISTURBED_RUN, began))
        undecided = await _undecided(pool)
        for state in await schedule_rows.all_of(pool):
            await edit.pause(pool, state.key, datetime.now(UTC), by="chaos", note="calm")
        drained = await _until(lambda: _none_open(pool))
        took = (datetime.now(UTC) - began).total_seconds()
        return undecided, took if ran and drained else None
    finally:
        await pool.close()


async def _none_open(pool: Pool) -> bool:
    return not await pool.fetchval(OPEN)


async def _until(done: Callable[[], Awaitable[bool]]) -> bool:
    deadline = asyncio.get_running_loop().time() + DRAIN_TIMEOUT
    while not await done():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


async def _undecided(pool: Pool) -> int:
    """Return how many overdue ticks are still undecided."""
    late = datetime.now(UTC) - MAX_DELAY
    count = 0
    for state in await schedule_rows.all_of(pool):
        since = min(state.evaluated_through, late)
        count += sum(1 for _ in Schedule.from_spec(state.spec, name=state.key).ticks(since, late))
    return count


async def inspect(dsn: str, sources: Sequence[Source]) -> Findings:
    """Read the findings; call when no worker runs any more."""
    pool = await open_pool(dsn, size=2)
    try:
        found = Findings()
        accounts = await proof.verify(pool, datetime.now(UTC))
        for account in accounts:
            _add_account(found, account)
        found.recounted = differences(accounts, await recount.recount(dsn))
        found.stuck += await pool.fetchval(OPEN)
        found.duplicates += await pool.fetchval(ENDED_TWICE)
        found.runs = {row[0]: row[1] for row in await pool.fetch(BY_STATUS)}
        found.recovery_counts = dict(await pool.fetchrow(RECOVERY_COUNTS) or {})
        found.events = [_event(row) for row in await pool.fetch(EVENTS)]
        async with pool.acquire() as connection:
            found.records = await world.compare(connection, sources)
        return found
    finally:
        await pool.close()


def differences(accounts: Sequence[TickAccount], counts: Sequence[Count]) -> list[str]:
    """Return what the independent recount finds wrong, and where `verify` says otherwise."""
    found: list[str] = []
    for account, count in zip(accounts, counts, strict=True):
        verified = (account.expected, account.unaccounted, account.unexpected)
        recounted = (count.expected, count.unaccounted, count.invented)
        if verified != recounted or bool(account.duplicates) != bool(count.doubled):
            found.append(
                f"{count.key}: verify says {verified} ticks, unaccounted, invented and"
                f" {account.duplicates} doubled; recount {recounted} and {count.doubled}"
            )
        if not count.sound:
            found += [f"{count.key}: {fault}" for fault in count.faults]
    return found


def _event(row: asyncpg.Record) -> RunEvent:
    pid = None if row["worker"] is None else int(row["worker"].split(":")[-2])
    return RunEvent(str(row["execution_id"]), row["attempt"], row["event"], row["at"], pid)


def _add_account(found: Findings, account: TickAccount) -> None:
    found.expected += account.expected
    found.unaccounted += account.unaccounted
    found.duplicates += account.duplicates + account.unexpected
    found.outcomes["ran"] += account.ran
    for outcome, reasons in (("skipped", account.skipped), ("missed", account.missed)):
        for reason, count in reasons.items():
            found.outcomes[f"{outcome} ({reason})"] += count
