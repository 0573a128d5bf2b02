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
class Act:
    """Who acts, when, and why."""

    by: str
    now: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WantedRun:
    """A run that is requested: of the schedule `job`, with that task and validated parameters.

    `params` take precedence over the parameters of the schedule; those of a run that repeats the
    run `retry_of` replace them. `at`: when it starts; None is at once. `run_id`: a second request
    with it does nothing.
    """

    job: str
    task: str
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    at: datetime | None = None
    run_id: UUID = field(default_factory=uuid4)
    retry_of: UUID | None = None


async def request(pool: Pool, wanted: WantedRun, act: Act, default: Policies) -> QueuedRun:
    """Insert the run, with the policies of its schedule or the default ones; returns it.

    Raises BadSchedule if its schedule cannot be read, and WrongState if it is retired.
    """
    params = params_of(wanted.job, wanted.task, wanted.params)
    key = schedule_rows.key_of(wanted.task, params)
    state = await schedule_rows.one(pool, key)
    check_open(state)
    policies = default if state is None else Policies.from_spec(state.policies)
    if state is not None and wanted.retry_of is None:
        params = state.params | params
    requested = RunRequest(
        wanted.run_id,
        wanted.task,
        params,
        author(act, wanted.retry_of),
        policies.max_attempts,
        policies.timeout,
        not_before=wanted.at,
    )
    async with pool.acquire() as connection, connection.transaction():
        if await run_rows.read_run(connection, wanted.run_id) is None:
            await insert(connection, key, requested, act, wanted.retry_of)
    _log.info("run.requested", execution_id=str(wanted.run_id), job=key, by=act.by)
    return QueuedRun(wanted.run_id, wanted.task)


def author(act: Act, retry_of: UUID | None) -> str:
    """Who requests a run, and which run it repeats."""
    of = "" if retry_of is None else f" (retry of {retry_of})"
    return f"{act.by}{of}"[:MAX_AUTHOR]


async def insert(
    connection: Connection, key: str, requested: RunRequest, act: Act, retry_of: UUID | None
) -> None:
    """Insert the run, with who requested it and why. Call it in a transaction."""
    detail: dict[str, Any] = {"params": requested.params} if requested.params else {}
    if retry_of is not None:
        detail["retry_of"] = str(retry_of)
    action = AuditAction.RUN if retry_of is None else AuditAction.RETRY
    entry = AuditEntry(
        act.now, act.by, action, key, requested.run_id, act.reason, detail, requested.org_id
    )
    await run_rows.request(connection, requested, act.now)
    await schedule_edits.record_request(connection, requested.run_id, act.now, act.by)
    await audit.record(connection, [entry])


async def cancel(pool: Pool, runs: Sequence[Mapping[str, Any]], act: Act) -> list[UUID]:
    """Cancel those of the runs (rows of the listing) that are open; returns their ids.

    A worker that executes one stops within a third of its lease.
    """
    error = f"cancelled by {act.by}: {act.reason}" if act.reason else f"cancelled by {act.by}"
    entry = AuditEntry(act.now, act.by, AuditAction.CANCEL, reason=act.reason)
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
