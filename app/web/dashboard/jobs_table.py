"""Data of the dashboard's front page: what Postgres and Redis know of every job."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.core.enums import JobStatus
from app.health.judge import OverallReason
from app.scheduling.schedule import EPOCH
from app.store.db import UNAVAILABLE, Pool
from app.store.reports import overview
from app.store.schedules import heartbeats
from app.web.dashboard.job_rows import (
    JobTableRow,
    ScheduleData,
    StripCache,
    build_rows,
    rows_from_redis,
    sorted_groups,
)
from app.web.dashboard.tick_cache import TickCache
from app.web.dashboard.tick_slots import SHOWN_TICKS, TimeSpan, outages
from app.web.health.snapshot import HealthSnapshot

MAX_OUTAGE_AGE = timedelta(days=60)
RECENT_RUNS = 12
MIN_OUTAGE_AGE = timedelta(days=2)


_GROUPS: dict[JobStatus | None, str] = {
    JobStatus.UNHEALTHY: "Unhealthy",
    JobStatus.NOT_STARTED: "Not started",
    None: "Unknown",
    JobStatus.HEALTHY: "Healthy",
    JobStatus.PAUSED: "Paused",
}
_FAR_AHEAD = datetime(9999, 1, 1, tzinfo=UTC)
# How rows may be sorted within their group; what is not known comes last.
SORTS: dict[str, Callable[[JobTableRow], Any]] = {
    "next": lambda row: row.upcoming or _FAR_AHEAD,
    "last": lambda row: -(row.last or EPOCH).timestamp(),
    "took": lambda row: -(row.run[1] or 0.0),
    "failed": lambda row: -(row.tally.ended - row.tally.succeeded),
}


@dataclass(frozen=True, slots=True)
class BoardRows:
    """What was read from Postgres. `skew`: seconds by which the database clock is ahead."""

    lines: ScheduleData
    outages: Sequence[TimeSpan]
    recent: Sequence[Mapping[str, Any]]
    skew: float


@dataclass(frozen=True, slots=True)
class JobsBoard:
    """The content of the front page. Durations in seconds; None is "not known".

    `redis`: whether it answers. `redis_refuses`: it takes no writes, so workers are not known.
    """

    now: datetime
    rows: Sequence[JobTableRow]
    workers: int | None
    lag: float | None
    skew: float | None
    outage: TimeSpan | None
    outages: Sequence[TimeSpan]
    recent: Sequence[Mapping[str, Any]] | None
    redis: bool
    unaccounted: int | None = None
    unhealthy: Sequence[JobTableRow] = field(default=())
    redis_refuses: bool = False

    @property
    def postgres(self) -> bool:
        return self.recent is not None

    @property
    def groups(self) -> list[tuple[str, list[JobTableRow]]]:
        """The rows by status, with a title for each group that has rows, in their order."""
        found: dict[str, list[JobTableRow]] = {}
        for row in self.rows:
            found.setdefault(_GROUPS[row.status], []).append(row)
        return list(found.items())

    def selected(self, name: str, status: str, sort: str) -> "JobsBoard":
        """The board with the rows whose name contains `name` and whose status is `status`.

        Sorted within the groups by the key of SORTS; an unknown key leaves the order by name.
        """
        rows = [
            row
            for row in self.rows
            if name.lower() in row.key.lower() and status in {"", row.status or "unknown"}
        ]
        if sort in SORTS:
            rows.sort(key=SORTS[sort])
        return replace(self, rows=sorted_groups(rows))

    @property
    def healthy(self) -> bool:
        """Whether both servers answer, a worker is live and no job needs attention."""
        available = self.redis and self.postgres and bool(self.workers) and bool(self.rows)
        return available and not self.unhealthy


async def read_board(pool: Pool, patience: timedelta, memory: TickCache) -> BoardRows | None:
    """Read schedules, ticks, heartbeats and recent runs; None if Postgres does not answer."""
    try:
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            started = datetime.now(UTC)
            now = await heartbeats.database_now(connection)
            skew = (now - started - (datetime.now(UTC) - started) / 2).total_seconds()
            schedules = await overview.built_in(connection)
            gaps = await overview.gaps(connection, [line.id for line in schedules], SHOWN_TICKS)
            memory.invalidate(gaps)
            after = memory.read_after(schedules)
            ticks = memory.merge(
                schedules, after, await overview.ticks(connection, after, SHOWN_TICKS)
            )
            oldest = [known[-1].scheduled_for for known in ticks.values() if known]
            since = min([now - MIN_OUTAGE_AGE, *oldest])
            alive = await overview.heartbeats(connection, max(since, now - MAX_OUTAGE_AGE))
            recent = await overview.recent(
                connection, sorted({line.job for line in schedules}), RECENT_RUNS
            )
    except UNAVAILABLE:
        return None
    lines = ScheduleData(now, schedules, ticks, gaps)
    return BoardRows(lines, outages(alive, now, patience), recent, skew)


def build_board(
    snapshot: HealthSnapshot, database: BoardRows | None, drawn: StripCache
) -> JobsBoard:
    """Combine what Redis (`snapshot`) and Postgres (`database`; None if it did not answer) know."""
    redis = snapshot.reason is not OverallReason.REDIS_UNREACHABLE
    refuses = snapshot.reason is OverallReason.REDIS_REFUSES_WRITES
    workers = len(snapshot.workers) if redis and not refuses else None
    if database is None:
        entries, now = rows_from_redis(snapshot.jobs), snapshot.taken_at
        counted = snapshot.system.unaccounted
        ill = _unhealthy(entries)
        return JobsBoard(
            now, entries, workers, None, None, None, (), None, redis, counted, ill, refuses
        )
    entries = build_rows(database.lines, snapshot.jobs, database.outages, drawn)
    now = database.lines.now
    return JobsBoard(
        now=now,
        rows=entries,
        workers=workers,
        lag=frontier_lag(database.lines),
        skew=database.skew,
        outage=next((outage for outage in database.outages if outage[1] == now), None),
        outages=database.outages,
        recent=database.recent,
        redis=redis,
        unaccounted=snapshot.system.unaccounted,
        unhealthy=_unhealthy(entries),
        redis_refuses=refuses,
    )


def frontier_lag(lines: ScheduleData) -> float:
    """The frontier lag: seconds for which the oldest undecided tick has been due."""
    due = [line.due_at for line in lines.schedules if line.due_at is not None and line.enabled]
    return max(((lines.now - at).total_seconds() for at in due if at < lines.now), default=0.0)


def _unhealthy(entries: Sequence[JobTableRow]) -> list[JobTableRow]:
    return [row for row in entries if row.needs_attention]
