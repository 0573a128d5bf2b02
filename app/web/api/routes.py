"""Routes of the API: authenticate, parse, call the handler, and turn exceptions into problems."""

import asyncio
import re
from collections.abc import AsyncGenerator
from functools import partial
from http import HTTPStatus
from itertools import groupby
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Receive, Scope, Send

from app.core import log
from app.web.api import auth, idempotency, openapi, problems, requests
from app.web.api.context import ApiRequest
from app.web.api.endpoint import Endpoint
from app.web.api.problems import Problem
from app.web.api.schemas.base import EmptyRequest
from app.web.api.table import ENDPOINTS
from app.web.context import web_context

PREFIXES = ("/collection", "/collections", "/operator", "/odds", "/news")
COMMON_HEADERS = {"cache-control": "no-store"}
STREAM_HEADERS = {**COMMON_HEADERS, "x-accel-buffering": "no"}  # proxies must pass on each part
PARTS_WITH_SLASHES = ("{key}", "{match}")  # of any text: of items, jobs and matches

_log = log.logger(__name__)


def routes() -> list[BaseRoute]:
    """Return the routes of the API and of its OpenAPI document."""
    mounts = [_mount(prefix) for prefix in PREFIXES]
    lists = [one for one in ENDPOINTS if one.path in PREFIXES]
    return [*mounts, *(_list_route(one) for one in lists), Route("/openapi.json", _document)]


def _mount(prefix: str) -> Mount:
    below = [endpoint for endpoint in ENDPOINTS if endpoint.path.startswith(f"{prefix}/")]
    by_path = groupby(sorted(below, key=_order), _order)
    inner = [_route(path.removeprefix(prefix), list(group)) for (_, path), group in by_path]
    api = Starlette(
        routes=inner, exception_handlers={HTTPException: _http_error, Exception: _unexpected}
    )
    api.router.redirect_slashes = False
    mount = Mount(prefix, api)
    # Starlette's own pattern stops at a line break, and the 404 would not be a problem document.
    mount.path_regex = re.compile(rf"^{prefix}/(?P<path>.*)$", re.DOTALL)
    return mount


def _order(endpoint: Endpoint) -> tuple[bool, str]:
    # What ends with a parameter comes last: it may have slashes, and match what others are.
    return endpoint.path.endswith("}"), endpoint.path


class BearerRoute(Route):
    """A route for requests with an Authorization header; a page has the same path for others."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as a Route does, if the request has the header."""
        if scope["type"] != "http" or not any(k == b"authorization" for k, _ in scope["headers"]):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; another method gets a problem document, as on the other paths."""
        allowed = self.methods or set[str]()
        if scope["method"] in allowed:
            await super().handle(scope, receive, send)
            return
        error = HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
        response = await _http_error(Request(scope), error)
        await response(scope, receive, send)


def _list_route(endpoint: Endpoint) -> Route:
    async def respond(request: Request) -> Response:
        return await _handle(request, endpoint)

    return BearerRoute(endpoint.path, respond, methods=[endpoint.method])


def _route(path: str, endpoints: list[Endpoint]) -> Route:
    by_method = {endpoint.method: endpoint for endpoint in endpoints}
    by_method |= {"HEAD": by_method["GET"]} if "GET" in by_method else {}

    async def respond(request: Request) -> Response:
        return await _handle(request, by_method[request.method])

    for part in PARTS_WITH_SLASHES:
        path = path.replace(part, f"{part[:-1]}:path}}")
    return Route(path, respond, methods=list(by_method))


async def _handle(request: Request, endpoint: Endpoint) -> Response:
    try:
        async with asyncio.timeout(endpoint.seconds):
            parsed = await _parse(request, endpoint)
            if (key := parsed.idempotency_key) is not None:
                respond = partial(_respond, parsed, endpoint)
                return await idempotency.respond_once(parsed, endpoint, key, respond)
            answer = await _respond(parsed, endpoint)
            if request.method == "HEAD" and isinstance(answer, StreamingResponse):
                return await _without_body(answer)
            return answer
    except Exception as error:
        problem = problems.of_error(error)
        if problem is None:
            raise
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.warning("api.refused", operation=endpoint.name, error=repr(error))
        return problem.response()


async def _respond(parsed: ApiRequest, endpoint: Endpoint) -> Response:
    answer = await endpoint.handler(parsed)
    if answer.stream is not None:
        headers = {**STREAM_HEADERS, **answer.headers}
        return StreamingResponse(answer.stream, endpoint.status, headers, answer.media_type)
    text = None if answer.body is None else answer.body.model_dump_json()
    media_type = None if text is None else "application/json"
    return Response(text, endpoint.status, {**COMMON_HEADERS, **answer.headers}, media_type)


async def _without_body(answer: StreamingResponse) -> Response:
    """Return the headers of a stream, and end it: it may have no end, or hold a slot."""
    stream = cast("AsyncGenerator[bytes]", answer.body_iterator)
    await anext(stream)
    await stream.aclose()
    response = Response(None, answer.status_code, dict(answer.headers))
    del response.headers["content-length"]  # which that of the stream is, is not known
    return response


async def _parse(request: Request, endpoint: Endpoint) -> ApiRequest:
    context = web_context(request)
    principal, now = await auth.authorize(context, request, endpoint)
    key = idempotency.key_of(request) if endpoint.takes_key else None
    model = endpoint.body_model
    body = model and await requests.body(request, model, optional=not endpoint.needs_body)
    return ApiRequest(
        context=context,
        principal=principal,
        now=now,
        path=requests.path(request),
        query=requests.query(request, endpoint.query or EmptyRequest),
        body=body,
        revision=requests.revision(request) if endpoint.if_match else None,
        last_event_id=request.headers.get("last-event-id"),
        idempotency_key=key,
        sealing_key=b"" if key is None else idempotency.sealing_key(request, key),
    )


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    details = {
        404: "there is no such path",
        405: "this path does not support that method",
        408: "the body of the request did not arrive in time",
    }
    detail = details.get(status, HTTPStatus(status).phrase)
    return Problem(status, detail, headers=headers).response()


async def _unexpected(_: Request, __: Exception) -> Response:
    # Starlette raises it again, so the server logs the traceback. The client does not see it.
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; it has been logged"
    ).response()


async def _document(_: Request) -> Response:
    return Response(openapi.as_json(), media_type="application/json")
