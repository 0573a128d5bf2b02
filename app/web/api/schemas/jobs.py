"""Bodies and filters of the operator's endpoints of jobs, runs, backfills and workers."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.core.enums import JobStatus, RunStatus, Trigger
from app.web.api.schemas.base import (
    BodyInstant,
    Flag,
    Instant,
    Name,
    Note,
    OptionalRequest,
    PageQuery,
    RequestModel,
    ResponseModel,
    SourceName,
)
from app.web.api.schemas.runs import RunSource

Reason = Note


class JobsQuery(RequestModel):
    """Whether the schedules of organisations are listed too."""

    collections: Flag = False


class JobBody(ResponseModel):
    """A schedule. `due`: in words. `frontier`: up to here every tick has its outcome.

    `status`, `reason`: its health; null if it is not known yet.
    """

    job: str
    task: str
    due: str
    enabled: bool
    retired_at: AwareDatetime | None
    paused_at: AwareDatetime | None
    paused_by: str | None
    paused_note: str | None
    paused_until: AwareDatetime | None
    next: AwareDatetime | None
    frontier: AwareDatetime
    status: JobStatus | None
    reason: str | None
    last_run: AwareDatetime | None
    last_success: AwareDatetime | None


class JobList(ResponseModel):
    """The schedules, by name."""

    jobs: list[JobBody]


class JobPause(RequestModel):
    """Why the job is paused. `until`: it resumes by itself then."""

    note: Note
    until: BodyInstant | None = None


class JobRun(OptionalRequest):
    """A run by hand. `params`: as the job declares them; `at`: when it starts, now by default."""

    params: dict[str, Any] = Field(default_factory=dict)
    at: BodyInstant | None = None
    reason: Reason | None = None


class ReasonRequest(OptionalRequest):
    """Why; optional."""

    reason: Reason | None = None


class AllRunsQuery(PageQuery):
    """Filters of runs. `job`: a schedule's name or a task; `source`: with this source."""

    job: SourceName | None = None
    status: RunStatus | None = None
    trigger: Trigger | None = None
    source: SourceName | None = None
    since: Instant | None = None
    until: Instant | None = None


class AnyRunBody(ResponseModel):
    """One run. `org_id`: null is the operator's. `not_before`: it does not start earlier."""

    id: UUID
    job: str
    task: str
    org_id: UUID | None
    trigger: Trigger
    scheduled_for: AwareDatetime | None
    requested_by: str | None
    status: RunStatus
    attempt: int
    worker: str | None
    created_at: AwareDatetime
    not_before: AwareDatetime | None
    deferred_until: AwareDatetime | None
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    duration_seconds: float | None
    error_type: str | None
    error_message: str | None
    params: dict[str, Any]
    stats: dict[str, Any]
    backfill_id: UUID | None


class AllRuns(ResponseModel):
    """A page of runs of every job, newest first."""

    runs: list[AnyRunBody]
    next_cursor: str | None


class RunEvent(ResponseModel):
    """An event of a run, such as claimed, lost or finished."""

    at: AwareDatetime
    event: str
    attempt: int
    worker: str | None


class AnyRunWithSources(AnyRunBody):
    """One run, with the result of each source and its events."""

    sources: list[RunSource]
    events: list[RunEvent]


Concurrency = Annotated[int, Field(ge=1, le=100)]


class BackfillCreate(RequestModel):
    """Runs of a job for the past ticks from `since` to `until`, both included.

    `missing`: only ticks whose run failed or is missing. A new `name` runs again what an earlier
    backfill ran. `concurrency`: runs open at the same time. `plan`: only count, record nothing.
    """

    job: SourceName
    since: BodyInstant
    until: BodyInstant
    name: Name = "backfill"
    missing: bool = False
    concurrency: Concurrency = 1
    reason: Reason | None = None
    plan: bool = False


class BackfillPlanBody(ResponseModel):
    """A backfill as planned: `ticks` of the range, those that have run, are open, and are to run.

    `started`: whether the workers go on with it; false if there is nothing to run, or it was only
    planned.
    """

    id: UUID
    job: str
    ticks: int
    done: int
    open: int
    todo: int
    started: bool


class BackfillBody(ResponseModel):
    """A backfill. `fed`: ticks that have their run; `failed`: runs without full success."""

    id: UUID
    job: str
    name: str
    since: AwareDatetime
    until: AwareDatetime
    requested_by: str
    reason: str | None
    created_at: AwareDatetime
    completed_at: AwareDatetime | None
    stopped_by: str | None
    fed: int
    total: int
    ended: int
    failed: int
    open: int


class Backfills(ResponseModel):
    """The newest backfills of the operator's jobs, at most 200."""

    backfills: list[BackfillBody]


class WorkerBody(ResponseModel):
    """A live worker. `memory`: bytes. `running`: runs; `tasks`: null is any."""

    worker: str
    seen_at: AwareDatetime
    started_at: AwareDatetime | None
    host: str | None
    running: int | None
    memory: int | None
    version: str | None
    schema_: str | None = Field(serialization_alias="schema")
    zone_data: str | None
    clock_error: float | None
    tasks: list[str] | None
    faulty_jobs: list[str]
    runs: list[UUID]


class Workers(ResponseModel):
    """The live workers, by name, and how many runs wait and are executed."""

    workers: list[WorkerBody]
    queued: int
    running: int
    oldest_queued_at: AwareDatetime | None
