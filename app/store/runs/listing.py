"""Reads of runs for people: lists with filters and paging, and the parts of one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, exists, func, literal_column, or_, text, tuple_
from sqlmodel import and_, col, select

from app.core.enums import (
    COLLECTION_TASK,
    OPEN_STATUSES,
    SOURCE_TASK,
    RunStatus,
    Trigger,
)
from app.models.runs import RejectedRow, RunEventRow, RunRow, RunSourceRow
from app.models.schedules import ScheduleRow
from app.store import select as selects
from app.store.db import Connection, Pool

MAX_CHANGED = 1000
REJECTED_BYTES = 600  # bytes that are shown of a rejected record

_source_param: ColumnElement[str] = col(RunRow.params)["source"].astext  # JSONB

# The schedule's name: also of a manual run, which has no schedule but the parameters of one.
_JOB: ColumnElement[str] = func.coalesce(
    ScheduleRow.key,
    case(
        (
            and_(col(RunRow.job) == COLLECTION_TASK, col(RunRow.org_id).is_not(None)),
            func.concat(f"{COLLECTION_TASK}:", RunRow.org_id),
        ),
        (
            and_(col(RunRow.job) == SOURCE_TASK, _source_param.is_not(None)),
            func.concat(f"{SOURCE_TASK}:", _source_param),
        ),
        else_=RunRow.job,
    ),
)
_RUNS: Any = (  # pyright: ignore[reportUnknownVariableType] - the types of `select` end here
    select(RunRow, col(ScheduleRow.key).label("schedule"), _JOB.label("job_name"))  # pyright: ignore[reportUnknownArgumentType]
    .join(ScheduleRow, col(ScheduleRow.id) == col(RunRow.schedule_id), isouter=True)
)  # fmt: skip

# In the words of the partial indexes, which a parameter would not match.
_OPEN: Any = text("runs.status IN ('queued', 'running')")
_UNSUCCESSFUL: Any = text("runs.status NOT IN ('success', 'queued', 'running')")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Filter of runs; None matches any.

    `ids`: only these. `job`: the schedule's name, or a task. `org_id`: only of this organisation.
    `source`: only with this source. `error`: only with this text in the error's kind or message.
    `since`, `until`: created at or after, and before.
    `after`: (created_at, execution_id) of the last run of the previous page.
    """

    job: str | None = None
    statuses: Sequence[str] | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    org_id: UUID | None = None
    after: tuple[datetime, UUID] | None = None
    worker: str | None = None
    source: str | None = None
    error: str | None = None
    ids: Sequence[UUID] | None = None


async def runs(
    connection: Pool | Connection, filters: RunFilter, limit: int
) -> list[dict[str, Any]]:
    """Return the matching runs, newest first. `job` is the schedule's name, `task` arq's."""
    statement: Any = (
        _RUNS.where(*await _conditions(connection, filters))
        .order_by(col(RunRow.created_at).desc(), col(RunRow.execution_id))
        .limit(limit)
    )
    return [_named(row) for row in await selects.fetch(connection, statement)]


async def changed_since(
    connection: Pool | Connection, filters: RunFilter, since: datetime
) -> list[dict[str, Any]]:
    """Return matching runs that are open, or changed after `since`, oldest first."""
    changed = or_(
        col(RunRow.created_at) > since,
        col(RunRow.started_at) > since,
        col(RunRow.completed_at) > since,
        col(RunRow.status).in_(sorted(OPEN_STATUSES)),
    )
    statement: Any = (
        _RUNS.where(*await _conditions(connection, filters), changed)
        .order_by(col(RunRow.created_at))
        .limit(MAX_CHANGED)
    )
    return [_named(row) for row in await selects.fetch(connection, statement)]


async def run(
    connection: Pool | Connection, run_id: UUID, org_id: UUID | None = None
) -> dict[str, Any] | None:
    """Return one run; None if there is none.

    With `org_id`, one of this organisation only, whatever row-level security hides.
    """
    statement: Any = _RUNS.where(RunRow.execution_id == run_id)
    if org_id is not None:
        statement = statement.where(col(RunRow.org_id) == org_id)
    rows = await selects.fetch(connection, statement)
    return _named(rows[0]) if rows else None


async def events(connection: Pool | Connection, run_id: UUID) -> list[dict[str, Any]]:
    """Return the events of the run, in order."""
    statement = select(RunEventRow).where(RunEventRow.execution_id == run_id)
    return await selects.fetch(connection, statement.order_by(col(RunEventRow.id)))


async def sources(connection: Pool | Connection, run_id: UUID) -> list[dict[str, Any]]:
    """Return the sources of the run, by name."""
    statement = select(RunSourceRow).where(RunSourceRow.execution_id == run_id)
    return await selects.fetch(connection, statement.order_by(col(RunSourceRow.source)))


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Filter of rejected records; None matches any."""

    run_id: UUID | None = None
    job: str | None = None
    source: str | None = None
    since: datetime | None = None


# An unchanged page is neither parsed nor stored: an earlier run rejected what it contains, at
# most a day before.
EARLIER_REJECTIONS = """
SELECT s.source, e.execution_id
FROM run_sources s
JOIN runs r ON r.execution_id = s.execution_id
CROSS JOIN LATERAL (
  SELECT p.execution_id
  FROM runs p
  WHERE p.job = r.job AND p.org_id IS NOT DISTINCT FROM r.org_id
    AND p.created_at < r.created_at AND p.created_at > r.created_at - interval '2 days'
    AND EXISTS (SELECT FROM rejected_records x
                WHERE x.execution_id = p.execution_id AND x.source = s.source)
  ORDER BY p.created_at DESC LIMIT 1) e
WHERE s.execution_id = $1 AND s.rejected > (
  SELECT count(*) FROM rejected_records x
  WHERE x.execution_id = s.execution_id AND x.source = s.source)
"""


async def rejected(
    connection: Pool | Connection, filters: RejectedFilter, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the matching rejected records with their run's job, and the number of all matches.

    Those of one run include those of its unchanged pages, which an earlier run rejected. The newest
    run first, and within a run in the order of their rejection. `data` is the record's
    first REJECTED_BYTES bytes, `size` the length of all of it.
    """
    data = func.substring(RejectedRow.data, 1, REJECTED_BYTES)
    matching: Any = (
        select(RejectedRow, _JOB.label("job"))
        .join(RunRow, col(RunRow.execution_id) == col(RejectedRow.execution_id))
        .join(ScheduleRow, col(ScheduleRow.id) == col(RunRow.schedule_id), isouter=True)
        .where(*await _rejected_conditions(connection, filters))
    )
    shown = (
        matching.with_only_columns(
            col(RejectedRow.execution_id),
            _JOB.label("job"),
            col(RejectedRow.source),
            col(RejectedRow.partition),
            col(RejectedRow.page),
            col(RejectedRow.record_id),
            col(RejectedRow.reason),
            data.label("data"),
            func.octet_length(RejectedRow.data).label("size"),
            col(RejectedRow.created_at),
        )
        .order_by(col(RunRow.created_at).desc(), col(RejectedRow.id))
        .limit(limit)
    )
    count = matching.with_only_columns(func.count().label("count"))
    rows = await selects.fetch(connection, shown)
    return rows, (await selects.fetch(connection, count))[0]["count"]


async def _rejected_conditions(
    connection: Pool | Connection, filters: RejectedFilter
) -> list[ColumnElement[bool]]:
    conditions: list[Any] = []
    if filters.run_id is not None:
        own: Any = RejectedRow.execution_id == filters.run_id
        earlier = await connection.fetch(EARLIER_REJECTIONS, filters.run_id)
        pairs = [(row["execution_id"], row["source"]) for row in earlier]
        place = tuple_(col(RejectedRow.execution_id), col(RejectedRow.source))
        conditions.append(or_(own, place.in_(pairs)) if pairs else own)
    if filters.job is not None:
        conditions.append(await _of_job(connection, filters.job))
    if filters.source is not None:
        conditions.append(RejectedRow.source == filters.source)
    if filters.since is not None:
        conditions.append(col(RejectedRow.created_at) >= filters.since)
    return conditions


# Two rows are enough to tell a unique prefix from an ambiguous one.
BY_PREFIX = "SELECT execution_id FROM runs WHERE execution_id::text LIKE $1 LIMIT 2"


async def ids_with_prefix(pool: Pool, begins: str) -> list[UUID]:
    """Return at most two run ids with that prefix of hexadecimal digits and hyphens."""
    return [row[0] for row in await pool.fetch(BY_PREFIX, f"{begins.lower()}%")]


async def indexed_conditions(
    connection: Pool | Connection, filters: RunFilter
) -> list[ColumnElement[bool]]:
    """Return those of the conditions that an index answers in the order of creation."""
    created, conditions = col(RunRow.created_at), list[Any]()
    if filters.job is not None:
        conditions.append(await _of_job(connection, filters.job))
    if filters.since is not None:
        conditions.append(created >= filters.since)
    if filters.until is not None:
        conditions.append(created < filters.until)
    if filters.org_id is not None:
        conditions.append(RunRow.org_id == filters.org_id)
    if filters.after is not None:
        at, run_id = filters.after
        conditions.append(created <= at)
        conditions.append(or_(created < at, col(RunRow.execution_id) > run_id))
    return [*conditions, *_partial_indexes(filters)]


async def _conditions(
    connection: Pool | Connection, filters: RunFilter
) -> list[ColumnElement[bool]]:
    return [*await indexed_conditions(connection, filters), *_detail_conditions(filters)]


def _partial_indexes(filters: RunFilter) -> list[ColumnElement[bool]]:
    """Conditions that the filter implies, in the words of the partial indexes."""
    conditions: list[Any] = []
    statuses = set(filters.statuses or ())
    if filters.error or (statuses and not statuses & {RunStatus.SUCCESS, *OPEN_STATUSES}):
        conditions.append(_UNSUCCESSFUL)
    elif statuses and statuses <= OPEN_STATUSES:
        conditions.append(_OPEN)
    elif statuses and RunStatus.SUCCESS not in statuses:
        conditions.append(or_(_UNSUCCESSFUL, _OPEN))
    if filters.trigger is not None and filters.trigger != Trigger.SCHEDULED:
        conditions.append(RunRow.trigger != literal_column("'scheduled'"))
    return conditions


def _detail_conditions(filters: RunFilter) -> list[ColumnElement[bool]]:
    conditions: list[Any] = []
    if filters.statuses is not None:
        conditions.append(col(RunRow.status).in_(list(filters.statuses)))
    if filters.trigger is not None:
        conditions.append(RunRow.trigger == filters.trigger)
    if filters.ids is not None:
        conditions.append(col(RunRow.execution_id).in_(list(filters.ids)))
    if filters.worker is not None:
        conditions.append(RunRow.worker == filters.worker)
    if filters.source is not None:
        of_run = col(RunSourceRow.execution_id) == col(RunRow.execution_id)
        conditions.append(exists().where(of_run, col(RunSourceRow.source) == filters.source))
    if filters.error is not None:
        conditions.append(
            or_(
                col(RunRow.error_message).icontains(filters.error, autoescape=True),
                col(RunRow.error_type).icontains(filters.error, autoescape=True),
            )
        )
    return conditions


async def _of_job(connection: Pool | Connection, name: str) -> ColumnElement[bool]:
    """The runs of the schedule of that name, or of the task if there is no such schedule.

    By indexed columns: the runs of a task, or of a schedule, newest first.
    """
    found = await selects.fetch(
        connection, select(ScheduleRow.id, ScheduleRow.job).where(ScheduleRow.key == name)
    )
    schedule_id, task = (found[0]["id"], found[0]["job"]) if found else (None, None)
    prefix, _, source = name.partition(":")
    if prefix == SOURCE_TASK and source:
        # A scheduled run has its source in its schedule, any other in its parameters.
        scheduled = and_(_source_param.is_(None), col(RunRow.schedule_id) == schedule_id)
        return and_(col(RunRow.job) == SOURCE_TASK, or_(_source_param == source, scheduled))
    if schedule_id is None or task == name:
        return col(RunRow.job) == name
    return col(RunRow.schedule_id) == schedule_id


def _named(row: dict[str, Any]) -> dict[str, Any]:
    task, job = row.pop("job"), row.pop("job_name")
    return {"execution_id": row.pop("execution_id"), "job": job, "task": task} | row
