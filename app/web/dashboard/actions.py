"""Dashboard actions: run now, pause and resume a schedule. Each is recorded with its author."""

import asyncio
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4, uuid5

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.core import log
from app.core.errors import (
    BadParameters,
    BadSchedule,
    Conflict,
    InvalidValue,
    NotFound,
    OverLimit,
    UnknownJob,
    WrongState,
)
from app.ledger.manual_runs import Act, WantedRun
from app.store.db import INVALID_VALUES, UNAVAILABLE
from app.store.reports.overview import ScheduleSummary
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import page_filters, run_form
from app.web.dashboard.session_auth import NO_STORE, Form, SessionUser
from app.web.dashboard.views import find_schedule
from app.web.http_error import PARAMETER, InvalidField

MAX_NOTE_LENGTH = 500
MAX_REASONS = 10  # that one error names
FORM_IDS = UUID("6f0c7f0a-5f0e-4d0b-9d53-0d1c1f6f4a10")  # namespace of the ids that forms make

_log = log.logger(__name__)


@contextmanager
def http_errors() -> Generator[None]:
    """Raise what an act on a job or run raises as HTTPException: 400, 404, 409, 422, 429, 503."""
    try:
        yield
    except UNAVAILABLE:
        raise postgres_unavailable_error() from None
    except INVALID_VALUES:  # such as a NUL in the key
        raise HTTPException(400, "The address contains an invalid value.") from None
    except BadSchedule as error:
        raise HTTPException(409, f"The schedule cannot be read: {error}") from None
    except (NotFound, UnknownJob) as error:
        raise HTTPException(404, _sentence(error)) from None
    except (Conflict, WrongState) as error:
        raise HTTPException(409, _sentence(error)) from None
    except OverLimit as error:
        raise HTTPException(429, _sentence(error)) from None
    except BadParameters as error:
        raise InvalidField(PARAMETER, _sentence(error)) from None
    except InvalidValue as error:
        raise InvalidField(error.field, _sentence(error)) from None


@contextmanager
def refusals(refused: list[tuple[str, str]], job: str) -> Generator[None]:
    """Note that an act on a job is refused, and why, so that the others follow.

    Raises HTTPException 503.
    """
    try:
        with http_errors():
            yield
    except HTTPException as error:
        if error.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        refused.append((job, error.detail))


def partly_done(refused: Sequence[tuple[str, str]], done: int, total: int) -> HTTPException:
    """The error that says how many of `total` acts were done, and why others were refused."""
    reasons = list(dict.fromkeys(f"{job}: {detail}" for job, detail in refused))[:MAX_REASONS]
    return HTTPException(HTTPStatus.CONFLICT, f"{done} of {total} are done. {' '.join(reasons)}")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


async def act_of(context: WebContext, user: SessionUser, reason: str) -> Act:
    """What this user does now, for that reason."""
    now = await heartbeats.database_now(context.pool)
    return Act(user.principal.name, now, reason)


async def run_now(request: Request, user: SessionUser, form: Form) -> Response:
    """Request a run and redirect to it, or to the one that blocks that of a collection.

    Raises HTTPException, those of `http_errors`.
    """
    context, params = web_context(request), dict[str, Any]()
    with http_errors():
        key, task, org_id = await _runnable(request, user)
        act = await act_of(context, user, reason_of(form))
        if org_id is None:
            params = await asyncio.to_thread(run_form.params_from, context.config, key, task, form)
        wanted = WantedRun(key, task, params, run_id=run_id_of(form, key, params))
        requested = await or_open_run(context.steering.run(wanted, act))
    return await to_run(context, *requested)


def run_id_of(form: Form, key: str, params: Mapping[str, Any]) -> UUID:
    """The id of the run of that job that a form requests: sent twice, it is one run."""
    what = msgspec.json.encode(params, order="sorted").decode()
    return uuid5(FORM_IDS, f"{key} {what} {form.get('once') or uuid4()}")


async def or_open_run(queue: Awaitable[QueuedRun]) -> tuple[UUID, list[QueuedRun]]:
    """The id of a new run, or of the one that blocks it, and the runs to enqueue."""
    try:
        queued = await queue
    except Conflict as error:
        if error.run_id is None:
            raise
        return error.run_id, []
    return queued.run_id, [queued]


async def to_run(context: WebContext, run_id: UUID, queued: list[QueuedRun]) -> Response:
    """Enqueue the new run, and redirect to it, or to the open one if there is no new one."""
    await context.enqueue(queued)
    return redirect(f"/runs/{run_id}{'' if queued else '?done=open_run'}")


def until_of(form: Form, now: datetime) -> datetime | None:
    """The end of a pause in a form; None if it has none. Raises HTTPException 422."""
    text = form.get("until", "").strip()
    if not text:
        return None
    try:
        until = page_filters.instant(text)
    except HTTPException:
        raise InvalidField("until", "The end of the pause is not a valid instant.") from None
    if until <= now:
        raise InvalidField("until", "The end of the pause is in the past.")
    return until


def reason_of(form: Form, *, required: bool = False) -> str:
    """The reason in a form, which may be empty unless `required`. Raises HTTPException 422."""
    note = form.get("note", "").strip()
    if (required and not note) or len(note) > MAX_NOTE_LENGTH or not note.isprintable():
        raise InvalidField(
            "note", f"Enter a reason of one line, at most {MAX_NOTE_LENGTH} characters."
        )
    return note


async def pause(request: Request, user: SessionUser, form: Form) -> Response:
    """Pause a schedule and record the reason. Its ticks are skipped until it is resumed.

    Raises HTTPException 422 if the reason or the end is invalid, and those of `http_errors`.
    """
    context, note = web_context(request), reason_of(form, required=True)
    with http_errors():
        line, act = await _line(request, user), await act_of(context, user, note)
        until = until_of(form, act.now)
        if line.paused_at is not None:
            same = (line.paused_by, line.paused_note, line.paused_until) == (act.by, note, until)
            return _redirect_to_schedule(user, line, "paused" if same else "paused_before")
        queued = await context.steering.pause(line.key, act, until)
    await context.enqueue(queued)
    await context.publish_job(line.key)
    _log.info("schedule.paused_by", schedule=line.key, by=user.principal.name)
    return _redirect_to_schedule(user, line, "paused")


async def resume(request: Request, user: SessionUser, _: Form) -> Response:
    """Resume a paused schedule. Raises HTTPException, those of `http_errors`."""
    context = web_context(request)
    with http_errors():
        line, act = await _line(request, user), await act_of(context, user, "")
        if line.paused_at is None:
            return _redirect_to_schedule(user, line, "not_paused")
        queued = await context.steering.resume(line.key, act)
    await context.enqueue(queued)
    await context.publish_job(line.key)
    _log.info("schedule.resumed_by", schedule=line.key, by=user.principal.name)
    return _redirect_to_schedule(user, line, "resumed")


async def _runnable(request: Request, user: SessionUser) -> tuple[str, str, UUID | None]:
    """Key, task and owner of the job named by the path, which may have no schedule."""
    key: str = request.path_params["key"]
    snapshot = await web_context(request).snapshot.value()
    if user.org_id is None and key in snapshot.run_by_hand:
        return key, key, None
    line = await _line(request, user)
    return line.key, line.job, line.org_id


async def _line(request: Request, user: SessionUser) -> ScheduleSummary:
    """The schedule named by the path, if the user may see it."""
    async with transaction(web_context(request).pool, user.org_id) as connection:
        return await find_schedule(connection, request.path_params["key"], user.org_id)


def postgres_unavailable_error() -> HTTPException:
    return HTTPException(
        503, "Postgres does not answer, so the action was not performed. Try again."
    )


def _redirect_to_schedule(user: SessionUser, line: ScheduleSummary, done: str) -> Response:
    page = "/collections" if user.org_id is not None else f"/jobs/{quote(line.key, safe='')}"
    return redirect(f"{page}?done={done}")


def redirect(path: str) -> Response:
    return RedirectResponse(path, 303, NO_STORE)
