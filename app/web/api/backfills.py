"""Handlers of /operator/backfills: runs for past ticks. They call what `backfill` calls."""

from app.core.enums import Scope
from app.core.errors import BadSchedule, Conflict, InvalidValue, NotFound
from app.ledger import backfill
from app.ledger.backfill import BackfillRequest
from app.orgs.steering import owner_of
from app.store.schedules import backfills as store
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get, post
from app.web.api.schemas.jobs import (
    BackfillBody,
    BackfillCreate,
    BackfillPlanBody,
    Backfills,
    ReasonRequest,
)

SHOWN = 200
BACKFILLS = "/operator/backfills"
BACKFILL = f"{BACKFILLS}/{{backfill_id}}"


async def list_backfills(request: ApiRequest) -> ApiResponse:
    """List the newest backfills of the operator's jobs, and how far each is."""
    rows = await store.recent(request.context.pool, SHOWN)
    bodies = [BackfillBody.model_validate(row) for row in rows]
    return ApiResponse(Backfills(backfills=bodies))


async def create_backfill(request: ApiRequest) -> ApiResponse:
    """Run a job once for each tick of a past range; again continues it. Or only count (`plan`)."""
    body: BackfillCreate = request.body
    if owner_of(body.job) is not None:
        raise InvalidValue("job", "backfills of a collection are requested on the command line")
    wanted = BackfillRequest(
        body.job,
        body.since,
        body.until,
        request.principal.name,
        body.name,
        missing=body.missing,
        concurrency=body.concurrency,
        reason=body.reason or "",
    )
    try:
        plan = await backfill.make_plan(request.context.pool, wanted, request.now)
    except BadSchedule as error:
        raise InvalidValue("job", f"its schedule cannot be read: {error}") from None
    start = bool(plan.todo) and not body.plan
    if start:
        await backfill.start(request.context.pool, plan, request.now)
    answer = BackfillPlanBody(
        id=plan.backfill.id,
        job=body.job,
        ticks=len(plan.runs),
        done=plan.done,
        open=len(plan.open),
        todo=len(plan.todo),
        started=start,
    )
    return ApiResponse(answer, {"location": f"{BACKFILLS}/{plan.backfill.id}"})


async def read_backfill(request: ApiRequest) -> ApiResponse:
    """Read a backfill and how far it is."""
    backfill_id = request.path["backfill_id"]
    rows = await store.recent(request.context.pool, 1, backfill_id)
    if not rows:
        raise NotFound(f"there is no backfill {backfill_id}")
    return ApiResponse(BackfillBody.model_validate(rows[0]))


async def stop_backfill(request: ApiRequest) -> ApiResponse:
    """Add no more runs to a backfill; those that are queued end."""
    body: ReasonRequest = request.body
    await read_backfill(request)  # 404 if there is none
    stopped = await backfill.stop(
        request.context.pool,
        request.path["backfill_id"],
        request.now,
        by=request.principal.name,
        reason=body.reason or "",
    )
    if not stopped:
        raise Conflict("this backfill is over")
    return await read_backfill(request)


ENDPOINTS: tuple[Endpoint, ...] = (
    get(BACKFILLS, Scope.READ, list_backfills, Backfills),
    post(
        BACKFILLS,
        Scope.OPERATE,
        create_backfill,
        BackfillPlanBody,
        status=202,
        body=BackfillCreate,
        errors=(404,),
    ),
    get(BACKFILL, Scope.READ, read_backfill, BackfillBody),
    post(f"{BACKFILL}/stop", Scope.OPERATE, stop_backfill, BackfillBody, body=ReasonRequest),
)
