"""Actions on several jobs at once: run, pause and resume those selected from a filtered list."""

from collections.abc import Mapping
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.ledger.manual_runs import Act, WantedRun
from app.store.db import Connection
from app.store.reports import overview
from app.store.reports.overview import ScheduleSummary
from app.store.runs.run_rows import QueuedRun
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import actions, notices, page_filters
from app.web.dashboard.session_auth import Form, SessionUser
from app.web.dashboard.views import respond

STATES = ("enabled", "paused", "disabled")
ACTIONS = ("run", "pause", "resume")


async def jobs(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The operator's jobs with their state, to select some of them."""
    fields = _fields(request.query_params)
    lines = await overview.built_in(connection)
    return respond(
        "jobs.html",
        user,
        "jobs",
        lines=[(line, _state(line)) for line in lines if _matches(line, fields)],
        states=STATES,
        filters=fields,
        once=str(uuid4()),
        notice=notices.notice(request.query_params),
    )


async def several(request: Request, user: SessionUser, form: Form) -> Response:
    """Run, pause or resume the selected jobs.

    Raises HTTPException 422 if none is selected or the reason is missing, 409 if a job refuses,
    503.
    """
    context, action = web_context(request), form.get("action", "")
    selected = set(form.getlist("job"))
    if action not in ACTIONS or not selected:
        raise HTTPException(422, "Select at least one job, and what to do.")
    reason = actions.reason_of(form, required=action == "pause")
    with actions.http_errors():
        async with transaction(context.pool, user.org_id) as connection:
            lines = [line for line in await overview.built_in(connection) if line.key in selected]
        act = await actions.act_of(context, user, reason)
        gone = selected.difference(line.key for line in lines)
        refused = [(key, "There is no such job.") for key in sorted(gone)]
        done = 0
        for line in lines:
            with actions.refusals(refused, line.key):
                queued = await _act(context, act, form, line)
                if queued is not None:
                    done += 1
                    await context.enqueue(queued)
                    await context.publish_job(line.key)
    if refused:
        raise actions.partly_done(refused, done, len(selected))
    return actions.redirect(notices.address("/jobs", action, done, len(selected)))


async def _act(
    context: WebContext, act: Act, form: Form, line: ScheduleSummary
) -> list[QueuedRun] | None:
    """The runs to enqueue; None if the job is as the action would make it already."""
    state = _state(line)
    if form["action"] == "run":
        run_id = actions.run_id_of(form, line.key, {})
        wanted = WantedRun(line.key, line.job, run_id=run_id)
        return [await context.steering.run(wanted, act)]
    if form["action"] == "pause" and state != "paused":
        return await context.steering.pause(line.key, act, actions.until_of(form, act.now))
    if form["action"] == "resume" and state == "paused":
        return await context.steering.resume(line.key, act)
    return None


def _fields(params: Mapping[str, str]) -> dict[str, str]:
    state = params.get("state", "")
    return {
        "name": page_filters.clean_text(params.get("name", "")),
        "state": state if state in STATES else "",
    }


def _matches(line: ScheduleSummary, fields: Mapping[str, str]) -> bool:
    named = fields["name"].lower() in line.key.lower()
    return named and fields["state"] in {"", _state(line)}


def _state(line: ScheduleSummary) -> str:
    if line.paused_at is not None:
        return "paused"
    return "enabled" if line.enabled else "disabled"
