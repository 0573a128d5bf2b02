"""Handlers of /operator/jobs: every schedule, and what operators do with it.

They call what the commands `jobs`, `pause`, `resume` and `trigger` and the pages call.
"""

import asyncio
from urllib.parse import quote

from app.core.collection_keys import is_collection
from app.core.enums import Scope
from app.core.errors import NotFound
from app.ledger import upcoming
from app.ledger.manual_runs import WantedRun
from app.orgs.steering import owner_of
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import ScheduleState
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get, post
from app.web.api.runs import queued_answer
from app.web.api.schemas.jobs import JobBody, JobList, JobPause, JobRun, JobsQuery, ReasonRequest
from app.web.api.schemas.runs import QueuedRunBody
from app.web.health.snapshot import HealthSnapshot

JOBS, JOB = "/operator/jobs", "/operator/jobs/{key}"


async def list_jobs(request: ApiRequest) -> ApiResponse:
    """List the schedules of the operator's jobs, and with `collections` those of organisations."""
    query: JobsQuery = request.query
    states = await schedule_rows.all_of(request.context.pool)
    health = await request.context.snapshot.value()
    shown = [one for one in states if query.collections or not is_collection(one.key)]
    return ApiResponse(JobList(jobs=[_job(one, health) for one in shown]))


async def read_job(request: ApiRequest) -> ApiResponse:
    """Read a schedule with its health."""
    health = await request.context.snapshot.value()
    body = _job(await _existing(request), health)
    return ApiResponse(body, {"content-location": f"/operator/jobs/{quote(body.job, safe='')}"})


async def pause_job(request: ApiRequest) -> ApiResponse:
    """Pause a schedule, until it is resumed or an instant; its ticks are skipped."""
    body: JobPause = request.body
    state, context = await _existing(request), request.context
    queued = await context.steering.pause(state.key, request.act(body.note), body.until)
    await context.enqueue(queued)
    await context.publish_job(state.key)
    return await read_job(request)


async def resume_job(request: ApiRequest) -> ApiResponse:
    """Resume a paused schedule; nothing changes if it is not paused."""
    body: ReasonRequest = request.body
    state, context = await _existing(request), request.context
    if state.paused_at is not None:
        queued = await context.steering.resume(state.key, request.act(body.reason))
        await context.enqueue(queued)
        await context.publish_job(state.key)
    return await read_job(request)


async def run_job(request: ApiRequest) -> ApiResponse:
    """Queue a run by hand, now or at an instant; it has no tick."""
    body: JobRun = request.body
    state, context = await _existing(request), request.context
    params = body.params
    if owner_of(state.key) is None:
        given = schedule_rows.manual_params(state) | params
        params = await asyncio.to_thread(context.declared.json_params, state.job, given)
    wanted = WantedRun(state.key, state.job, params, body.at)
    queued = await context.steering.run(wanted, request.act(body.reason))
    await context.enqueue([queued], body.at)
    return queued_answer(request, queued, "/operator/runs")


async def _existing(request: ApiRequest) -> ScheduleState:
    key: str = request.path["key"]
    state = await schedule_rows.one(request.context.pool, key)
    if state is None:
        raise NotFound(f"there is no schedule {key!r}")
    return state


def _job(state: ScheduleState, health: HealthSnapshot) -> JobBody:
    judged = health.jobs.get(state.key)
    return JobBody(
        job=state.key,
        task=state.job,
        due=upcoming.describe(state),
        enabled=state.enabled,
        retired_at=state.retired_at,
        paused_at=state.paused_at,
        paused_by=state.paused_by,
        paused_note=state.paused_note,
        paused_until=state.paused_until,
        next=upcoming.next_run(state),
        frontier=state.evaluated_through,
        status=None if judged is None else judged.health.status,
        reason=None if judged is None else judged.health.reason_text,
        last_run=None if judged is None else judged.facts.last_run,
        last_success=None if judged is None else judged.facts.last_success,
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    get(JOBS, Scope.READ, list_jobs, JobList, query=JobsQuery),
    get(JOB, Scope.READ, read_job, JobBody),
    post(f"{JOB}/pause", Scope.OPERATE, pause_job, JobBody, body=JobPause),
    post(f"{JOB}/resume", Scope.OPERATE, resume_job, JobBody, body=ReasonRequest),
    post(f"{JOB}/run", Scope.OPERATE, run_job, QueuedRunBody, status=202, body=JobRun, seconds=30),
)
