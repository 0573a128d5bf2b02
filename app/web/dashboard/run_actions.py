"""Dashboard actions on runs: cancel and retry, one or several at once."""

from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4, uuid5

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import OPEN_STATUSES
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import job_labels, notices, page_filters
from app.web.dashboard.actions import (
    act_of,
    http_errors,
    or_open_run,
    partly_done,
    reason_of,
    redirect,
    refusals,
    to_run,
)
from app.web.dashboard.formatting import labelled
from app.web.dashboard.session_auth import Form, SessionUser
from app.web.dashboard.views import find_run, respond

MAX_AT_ONCE = 500
MAX_FORM_BYTES = 32_768  # of the form that confirms so many runs
CANCEL, RETRY = "cancel", "retry"
_RunRow = dict[str, Any]


async def cancel(request: Request, user: SessionUser, form: Form) -> Response:
    """Cancel an open run. Raises HTTPException 404, 409 if it has ended, 503."""
    context = web_context(request)
    with http_errors():
        run = await _run(request, user)
        act = await act_of(context, user, reason_of(form))
        cancelled = await context.steering.cancel([run], act)
    if not cancelled:
        raise HTTPException(409, "This run has ended already.")
    return redirect(f"/runs/{run['execution_id']}")


async def retry(request: Request, user: SessionUser, form: Form) -> Response:
    """Request a new run like one that has ended, and redirect to it.

    Raises HTTPException 404, 409 if the run has not ended, and those of `http_errors`.
    """
    context = web_context(request)
    with http_errors():
        run = await _run(request, user)
        act = await act_of(context, user, reason_of(form))
        retried = await or_open_run(context.steering.retry(run, act, _retry_id(run, form)))
    return await to_run(context, *retried)


async def several(request: Request, user: SessionUser, form: Form) -> Response:
    """Cancel or retry several runs: those selected, or all that a filter matches.

    Without `confirmed`, the page that says how many runs of which jobs it would be.
    Raises HTTPException 422 if nothing is selected, 409 if some cannot be retried, 503.
    """
    action, context = form.get("action", ""), web_context(request)
    if action.removesuffix("_all") not in {CANCEL, RETRY}:
        raise HTTPException(422, "Choose what to do with the runs.")
    with http_errors():
        found, more = await _selected(context, user, form)
        runs = _applicable(action, found)
        if not form.get("confirmed"):
            async with transaction(context.pool, user.org_id) as connection:
                labels = await job_labels.labels(connection, user, [run["job"] for run in runs])
            return _confirmation(user, form, runs, len(found) - len(runs), labels, more=more)
        done = await _perform(context, user, form, runs)
    back = form.get("back", "")
    path = back if back.startswith("/runs") else "/runs"
    return redirect(notices.address(path, action.removesuffix("_all"), done, len(found)))


async def _perform(context: WebContext, user: SessionUser, form: Form, runs: list[_RunRow]) -> int:
    """Cancel or retry the runs; returns to how many it was done."""
    act, steering = await act_of(context, user, reason_of(form)), context.steering
    if form["action"].startswith(CANCEL):
        return len(await steering.cancel(runs, act))
    queued: list[QueuedRun] = []
    refused: list[tuple[str, str]] = []
    try:
        for run in runs:
            with refusals(refused, run["job"]):
                queued += (await or_open_run(steering.retry(run, act, _retry_id(run, form))))[1]
    finally:
        await context.enqueue(queued)
    if refused:
        async with transaction(context.pool, user.org_id) as connection:
            labels = await job_labels.labels(connection, user, [job for job, _ in refused])
        reasons = [(labelled(job, labels), why) for job, why in refused]
        raise partly_done(reasons, len(queued), len(runs))
    return len(queued)


def _retry_id(run: _RunRow, form: Form) -> UUID:
    """The id of the run that repeats `run`. The same form sent twice is one run."""
    once = form.get("once", "") or str(uuid4())
    return uuid5(run["execution_id"], f"rollcall retry {once}")


def _applicable(action: str, found: list[_RunRow]) -> list[_RunRow]:
    """The runs to which it can be done. Of a collection, only the newest run is retried."""
    if action.startswith(CANCEL):
        return [run for run in found if run["status"] in OPEN_STATUSES]
    ended = [run for run in found if run["status"] not in OPEN_STATUSES]
    newest: dict[str, UUID] = {}
    for run in ended:
        newest.setdefault(run["job"], run["execution_id"])
    return [
        run for run in ended if run["org_id"] is None or newest[run["job"]] == run["execution_id"]
    ]


def _confirmation(
    user: SessionUser,
    form: Form,
    runs: list[_RunRow],
    left_out: int,
    labels: dict[str, str],
    *,
    more: bool,
) -> Response:
    counted = Counter((labelled(run["job"], labels), run["status"]) for run in runs)
    action = form["action"].removesuffix("_all")
    # The runs that are counted here, and not what the filter matches when it is confirmed.
    confirmed = [("run", run["execution_id"]) for run in runs]
    return respond(
        "confirm.html",
        user,
        "runs",
        action=action,
        counted=sorted(counted.items()),
        total=len(runs),
        left_out=left_out,
        more=more,
        fields=[("action", action), ("back", form.get("back", "")), *confirmed],
        once=str(uuid4()),
    )


async def _selected(
    context: WebContext, user: SessionUser, form: Form
) -> tuple[list[_RunRow], bool]:
    """The runs, and whether the filter matches more than can be done at once."""
    org_id = user.org_id
    async with transaction(context.pool, org_id) as connection:
        if form["action"].endswith("_all"):
            as_of = page_filters.optional_instant(form.get("as_of", ""))
            now = as_of or await heartbeats.database_now(connection)
            filters = page_filters.run_query(form, org_id, now).filters
            # Not the runs that came since: neither the list nor the confirmation showed them.
            until = now if filters.until is None else min(now, filters.until)
            rows = await listing.runs(connection, replace(filters, until=until), MAX_AT_ONCE + 1)
        else:
            ids = [_id(text) for text in form.getlist("run")]
            if not ids:
                raise HTTPException(422, "Select at least one run.")
            rows = await listing.runs(
                connection, RunFilter(ids=ids, org_id=org_id), MAX_AT_ONCE + 1
            )
    return rows[:MAX_AT_ONCE], len(rows) > MAX_AT_ONCE


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise HTTPException(422, "Not the id of a run.") from None


async def _run(request: Request, user: SessionUser) -> _RunRow:
    """The run of the path. Raises HTTPException 404 if the user may not see it."""
    async with transaction(web_context(request).pool, user.org_id) as connection:
        return await find_run(connection, request.path_params["run_id"], user.org_id)
