"""The page of the live workers: what they are and run, and what is left of their budgets."""

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from app.core import zone_data
from app.core.version import VERSION
from app.health.facts import RetryBudget
from app.health.judge import OverallReason
from app.health.metrics import read
from app.store.db import UNAVAILABLE
from app.store.runs import run_pages, source_usage
from app.store.runs.run_pages import RunsByWorker
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import job_labels
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import respond
from app.web.health.readiness import CHECK_SECONDS
from app.web.ttl_cache import with_deadline


async def workers(request: Request, user: SessionUser) -> Response:
    """The live workers and budgets of retries, as Redis knows them, and runs, as Postgres does."""
    context, org_id = web_context(request), user.org_id
    snapshot = await context.snapshot.value()
    running: RunsByWorker | None = None
    labels: dict[str, str] = {}
    try:
        async with transaction(context.pool, org_id) as connection:
            running = await run_pages.running(connection, org_id)
            jobs = [run["job"] for runs in running.values() for run in runs]
            labels = await job_labels.labels(connection, user, jobs)
    except UNAVAILABLE:
        running = None
    return respond(
        "workers.html",
        user,
        "workers",
        workers=sorted(snapshot.workers.items()),
        faulty=sorted({one for facts in snapshot.workers.values() for one in facts.faulty_jobs}),
        now=snapshot.taken_at,
        redis=snapshot.reason is not OverallReason.REDIS_UNREACHABLE,
        refuses=snapshot.reason is OverallReason.REDIS_REFUSES_WRITES,
        running=running,
        labels=labels,
        version=VERSION,
        zone_data=zone_data.VERSION,
        retries=await _retry_budgets(context),
        months=await _months(context),
    )


async def _retry_budgets(context: WebContext) -> list[RetryBudget] | None:
    """The retries of each host in this hour, most used first; None if Redis does not answer."""
    try:
        found = await with_deadline(CHECK_SECONDS, read.retry_budgets(context.redis))
    except (RedisError, OSError, TimeoutError):
        return None
    return sorted(found, key=lambda one: (one.allowed - one.used, one.host))


async def _months(context: WebContext) -> list[tuple[str, int | None, int]]:
    """Source, requests of this month (None if unknown) and its budget, of each that has one."""
    budgets = context.config.monthly_requests
    if not budgets:
        return []
    try:
        used = await with_deadline(CHECK_SECONDS, source_usage.used_this_month(context.pool))
    except UNAVAILABLE:
        return [(source, None, limit) for source, limit in sorted(budgets.items())]
    return [(source, used.get(source, 0), limit) for source, limit in sorted(budgets.items())]
