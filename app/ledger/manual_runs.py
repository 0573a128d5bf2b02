"""Runs that people request, retry and cancel. Each act is recorded with its author and reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from app.core import log
from app.core.enums import AuditAction
from app.ledger.stored_schedules import check_open
from app.scheduling.policies import Policies
from app.store import audit
from app.store.audit import AuditEntry
from app.store.db import Connection, Pool
from app.store.runs import run_rows
from app.store.runs.run_rows import QueuedRun, RunRequest
from app.store.schedules import schedule_edits, schedule_rows

MAX_AUTHOR = 200  # characters

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class ManualRun:
    """A run that a person requests. `retry_of`: the run that it repeats, with its parameters.

    Of any other, `params` take precedence over the parameters of the schedule.
    A second request with the same `run_id` does nothing.
    """

    task: str
    params: dict[str, Any]
    by: str
    reason: str = ""
    run_id: UUID = field(default_factory=uuid4)
    retry_of: UUID | None = None
    not_before: datetime | None = None

    @property
    def requested_by(self) -> str:
        """The author, and which run is repeated."""
        of = "" if self.retry_of is None else f" (retry of {self.retry_of})"
        return f"{self.by}{of}"[:MAX_AUTHOR]


async def request(pool: Pool, wanted: ManualRun, default: Policies, now: datetime) -> QueuedRun:
    """Insert the run, with the policies of its schedule or the default ones; returns it.

    Raises BadSchedule if its schedule cannot be read, and WrongState if it is retired.
    """
    key = schedule_rows.key_of(wanted.task, wanted.params)
    state = await schedule_rows.one(pool, key)
    check_open(state)
    policies = default if state is None else Policies.from_spec(state.policies)
    params = wanted.params
    if state is not None and wanted.retry_of is None:
        params = state.params | params
    requested = RunRequest(
        wanted.run_id,
        wanted.task,
        params,
        wanted.requested_by,
        policies.max_attempts,
        policies.timeout,
        not_before=wanted.not_before,
    )
    async with pool.acquire() as connection, connection.transaction():
        if await run_rows.read_run(connection, wanted.run_id) is None:
            await insert(connection, key, wanted, requested, now)
    _log.info("run.requested", execution_id=str(wanted.run_id), job=key, by=wanted.by)
    return QueuedRun(wanted.run_id, wanted.task)


async def insert(
    connection: Connection, key: str, wanted: ManualRun, requested: RunRequest, now: datetime
) -> None:
    """Insert the run, with who requested it and why. Call it in a transaction."""
    detail: dict[str, Any] = {"params": requested.params} if requested.params else {}
    if wanted.retry_of is not None:
        detail["retry_of"] = str(wanted.retry_of)
    action = AuditAction.RUN if wanted.retry_of is None else AuditAction.RETRY
    entry = AuditEntry(
        now, wanted.by, action, key, requested.run_id, wanted.reason, detail, requested.org_id
    )
    await run_rows.request(connection, requested, now)
    await schedule_edits.record_request(connection, requested.run_id, now, wanted.by)
    await audit.record(connection, [entry])


async def cancel(
    pool: Pool, runs: Sequence[Mapping[str, Any]], now: datetime, *, by: str, reason: str = ""
) -> list[UUID]:
    """Cancel those of the runs (rows of the listing) that are open; returns their ids.

    A worker that executes one stops within a third of its lease.
    """
    error = f"cancelled by {by}: {reason}" if reason else f"cancelled by {by}"
    entry = AuditEntry(now, by, AuditAction.CANCEL, reason=reason)
    async with pool.acquire() as connection, connection.transaction():
        return await cancel_in(connection, runs, entry, error)


async def cancel_in(
    connection: Connection, runs: Sequence[Mapping[str, Any]], entry: AuditEntry, error: str
) -> list[UUID]:
    """As `cancel`, in a transaction. `entry`: who cancels, when and why; `error`: of the runs."""
    known = {run["execution_id"]: run for run in runs}
    cancelled = await run_rows.cancel_open(connection, list(known), entry.at, by=error)
    entries = [
        replace(entry, job=known[one]["job"], execution_id=one, org_id=known[one]["org_id"])
        for one in cancelled
    ]
    await audit.record(connection, entries)
    return cancelled


def params_of(job: str, task: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with which a run of the job is repeated.

    A scheduled run of a recipe has its source in the name of its job only.
    """
    source = schedule_rows.source_of(job, task)
    return dict(params) if source is None else {"source": source} | dict(params)
