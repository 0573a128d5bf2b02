"""Forms call the API's operations, so that pages and API have the same rules; and their pages."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import Scope
from app.store.db import INVALID_VALUES, UNAVAILABLE, Connection
from app.store.tenancy import org_transaction
from app.web.api import problems
from app.web.api.context import ApiRequest
from app.web.api.endpoint import Endpoint
from app.web.api.problems import Problem
from app.web.api.schemas.base import EmptyRequest
from app.web.api.sources import load_recipe
from app.web.api.table import ENDPOINTS
from app.web.context import RLS_BYPASSED, WebContext, web_context
from app.web.dashboard.session_auth import SessionUser
from app.web.dashboard.views import respond

NO_VALUES: Mapping[str, Any] = {}
_REVISION = re.compile("[0-9]{1,9}")
_BY_PATH = {(one.method, one.path): one for one in ENDPOINTS}
CHECK_SECONDS = 10.0
NO_ANSWER = "Postgres does not answer. Try again."
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _UNAVAILABLE = 400, 403, 404, 503


async def call(
    request: Request,
    user: SessionUser,
    operation: tuple[str, str],
    path: Mapping[str, Any] = NO_VALUES,
    *,
    values: Mapping[str, Any] = NO_VALUES,
    revision: int | None = None,
) -> BaseModel | None:
    """The answer of the operation (method, path) to this user with these values.

    `values`: of the body, or of the query of a GET. `revision`: the one that was edited.
    Raises Problem for what the user can mend, and HTTPException 403, 404 or 503.
    """
    endpoint = _BY_PATH[operation]
    _check_scope(user, endpoint.scope)
    async with _translated(endpoint.seconds):
        await _check_isolation(web_context(request))
        answer = await endpoint.handler(
            await _api_request(
                request,
                user,
                path,
                body=_parsed(endpoint.body_model, values),
                query=_parsed(endpoint.query or EmptyRequest, _query(endpoint, values)),
                revision=revision,
            )
        )
    return answer.body


@asynccontextmanager
async def own_rows(request: Request, user: SessionUser) -> AsyncGenerator[tuple[Connection, UUID]]:
    """A transaction that sees the rows of the user's organisation, and the organisation.

    Raises HTTPException 400 for a value that Postgres cannot hold, 404 for the operator, and 503.
    """
    if user.org_id is None:
        raise HTTPException(_NOT_FOUND, "No such page.")
    try:
        async with org_transaction(web_context(request).pool, user.org_id) as connection:
            yield connection, user.org_id
    except UNAVAILABLE:
        raise HTTPException(_UNAVAILABLE, NO_ANSWER) from None
    except INVALID_VALUES:
        raise HTTPException(_BAD_REQUEST, "The address contains an invalid value.") from None


async def check_recipe(request: Request, user: SessionUser, text: str) -> None:
    """Check a recipe as the API does before it stores one. Raises Problem and HTTPException."""
    _check_scope(user, Scope.OPERATE)
    async with _translated(CHECK_SECONDS):
        await load_recipe(await _api_request(request, user, NO_VALUES), text)


@asynccontextmanager
async def _translated(seconds: float) -> AsyncGenerator[None]:
    """Raise errors of the API as Problem, or as HTTPException if no user can mend them."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (HTTPException, Problem):
        raise
    except UNAVAILABLE:
        raise HTTPException(_UNAVAILABLE, NO_ANSWER) from None
    except Exception as error:
        problem = problems.of_error(error)
        if problem is None:
            raise
        if problem.status == _NOT_FOUND:
            raise HTTPException(_NOT_FOUND, problem.detail) from None
        raise problem from None


def _check_scope(user: SessionUser, needed: Scope) -> None:
    if not user.principal.scope.allows(needed):
        raise HTTPException(
            _FORBIDDEN, f"This requires the scope {needed}; your token has {user.principal.scope}."
        )


async def _api_request(
    request: Request, user: SessionUser, path: Mapping[str, Any], **parts: Any
) -> ApiRequest:
    context = web_context(request)
    whole: dict[str, Any] = {"body": None, "query": None, "revision": None} | parts
    return ApiRequest(
        context=context,
        principal=user.principal,
        now=await context.now(context.pool),
        path=path,
        **whole,
    )


async def _check_isolation(context: WebContext) -> None:
    if not await context.isolation_enforced():
        raise HTTPException(_UNAVAILABLE, RLS_BYPASSED)


async def read(
    request: Request, user: SessionUser, path: str, params: Mapping[str, Any] = NO_VALUES
) -> Any:
    """The answer to a GET that cannot fail for what a user typed; raises HTTPException."""
    try:
        return await call(request, user, ("GET", path), params)
    except Problem as problem:
        raise HTTPException(_BAD_REQUEST, problem.detail) from None


def form_page(
    request: Request, user: SessionUser, name: str, problem: Problem | None, /, **values: object
) -> Response:
    """The page of a form. `problem`: what was refused of it, which is the page's status too."""
    shared = {
        "problem": problem,
        "may_edit": user.principal.scope.allows(Scope.ADMIN),
        "done": request.query_params.get("done", ""),
    }
    code = 200 if problem is None else problem.status
    return respond(f"editing/{name}.html", user, "collections", code, **(shared | values))


def revision_of(text: str) -> int | None:
    """The revision in a form; None if it has none."""
    return int(text) if _REVISION.fullmatch(text) else None


def _query(endpoint: Endpoint, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return values if endpoint.method == "GET" else NO_VALUES


def _parsed(model: type[BaseModel] | None, values: Mapping[str, Any]) -> Any:
    if model is None:
        return None
    try:
        return model.model_validate_json(json.dumps(dict(values)), strict=True)
    except ValidationError as error:
        raise problems.of_validation(error, model.model_fields, "form") from None
