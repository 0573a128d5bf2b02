"""The way of a request: who asks, what is asked, the deed, the answer; and every refusal."""

import asyncio
import re
from http import HTTPStatus
from itertools import groupby

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from app import log
from app.api import door, openapi, problems, reading
from app.api.desk import Answer, Asking, Desk
from app.api.endpoint import Endpoint
from app.api.problems import Problem
from app.api.shapes import Nothing
from app.api.table import ENDPOINTS

PREFIX = "/collection"
ASSURED = {"cache-control": "no-store"}

_log = log.logger(__name__)


def routes() -> list[BaseRoute]:
    """The API's addresses and its document, for the web to list among its own."""
    by_path = sorted(ENDPOINTS, key=lambda one: one.path)
    inner = [_route(path, list(group)) for path, group in groupby(by_path, lambda one: one.path)]
    api = Starlette(
        routes=inner,
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )
    api.router.redirect_slashes = False
    mount = Mount(PREFIX, api)
    # Starlette's own pattern stops at a line break, and the answer would not be one of ours.
    mount.path_regex = re.compile(rf"^{PREFIX}/(?P<path>.*)$", re.DOTALL)
    return [mount, Route("/openapi.json", _document)]


def _route(path: str, endpoints: list[Endpoint]) -> Route:
    by_method = {endpoint.method: endpoint for endpoint in endpoints}
    by_method |= {"HEAD": by_method["GET"]} if "GET" in by_method else {}

    async def answer(request: Request) -> Response:
        return await _answered(request, by_method[request.method])

    return Route(path.removeprefix(PREFIX), answer, methods=list(by_method))


async def _answered(request: Request, endpoint: Endpoint) -> Response:
    try:
        async with asyncio.timeout(endpoint.seconds):
            asking = await _understood(request, endpoint)
            return _written(endpoint, await endpoint.handler(asking))
    except Exception as error:
        problem = problems.of_error(error)
        if problem is None:
            raise
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.warning("api.refused", operation=endpoint.name, error=repr(error))
        return problem.answer()


async def _understood(request: Request, endpoint: Endpoint) -> Asking:
    desk: Desk = request.state.api
    who, now = await door.let_in(desk, request, endpoint.scope)
    body = endpoint.body and await reading.body(request, endpoint.body, optional=endpoint.optional)
    return Asking(
        desk=desk,
        who=who,
        now=now,
        path=reading.path(request),
        query=reading.query(request, endpoint.query or Nothing),
        body=body,
        revision=reading.revision(request) if endpoint.if_match else None,
    )


def _written(endpoint: Endpoint, answer: Answer) -> Response:
    text = None if answer.body is None else answer.body.model_dump_json()
    media_type = None if text is None else "application/json"
    return Response(text, endpoint.status, {**ASSURED, **answer.headers}, media_type)


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    said = {404: "there is no such address", 405: "this address does not take that method"}
    return Problem(status, said.get(status, HTTPStatus(status).phrase), headers=headers).answer()


async def _unexpected(_: Request, __: Exception) -> Response:
    # Logged with its traceback by the server, to whom it is raised again; told to nobody else.
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something broke here; it is logged").answer()


async def _document(_: Request) -> Response:
    return Response(openapi.DOCUMENT, media_type="application/json")
