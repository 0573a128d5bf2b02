"""Authentication of API requests: bearer tokens, scopes, and a limit on invalid tokens."""

from contextlib import suppress
from datetime import datetime
from http import HTTPStatus

from starlette.requests import Request

from app.core.errors import Unauthorized
from app.orgs import tokens
from app.orgs.tokens import Principal
from app.web.api.context import ApiRequest
from app.web.api.endpoint import Endpoint
from app.web.api.problems import RETRY_AFTER, Problem
from app.web.context import RLS_BYPASSED, TOKEN_FAILURES, WebContext
from app.web.throttle import client_address

NOT_AN_ORG = "this needs a token of an organisation; this one is the operator's"
NO_DATA = "this needs a token of the operator, or one that may read its odds and news"
NOT_THE_OPERATOR = "this needs a token of the operator; this one is an organisation's"
AUTH_HINT = "a valid token is required: Authorization: Bearer rc_…"


async def authorize(
    context: WebContext, request: Request, endpoint: Endpoint
) -> tuple[Principal, datetime]:
    """Return the principal and the time of the request.

    Raises Unauthorized (401) or Problem: 429 for too many invalid tokens or changes, 503 if
    row-level security does not bind our role, 403 if the token is not of the kind or the scope that
    the endpoint is for.
    """
    principal, now = await _authenticated(context, request)
    if (fault := _wrong_kind(principal, endpoint)) is not None:
        raise Problem(HTTPStatus.FORBIDDEN, fault)
    if not await context.isolation_enforced():
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, RLS_BYPASSED, headers=RETRY_AFTER)
    if not principal.scope.allows(endpoint.scope):
        detail = (
            f"this needs a token of scope {endpoint.scope.value};"
            f" this one has scope {principal.scope.value}"
        )
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    if principal.org_id is not None and request.method not in {"GET", "HEAD"}:
        wait = await context.changes.count(principal.org_id)
        if wait:
            detail = "your organisation has sent too many changes"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"retry-after": str(wait)})
    return principal, now


async def revalidate(request: ApiRequest) -> None:
    """Raise Unauthorized if the token of a request that takes long is no longer valid."""
    pool = request.context.pool
    now = await request.context.now(pool)
    await tokens.revalidate(pool, request.principal.token_id, now)


def _wrong_kind(principal: Principal, endpoint: Endpoint) -> str | None:
    """Return why the token is not of the kind that the endpoint is for; None if it is."""
    if principal.org_id is None:
        return None if endpoint.operator else NOT_AN_ORG
    if endpoint.data:
        return None if principal.data else NO_DATA
    return NOT_THE_OPERATOR if endpoint.operator else None


def bearer_token(request: Request) -> str:
    """Return the token that the request presents, valid or not; an empty text if there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


async def _authenticated(context: WebContext, request: Request) -> tuple[Principal, datetime]:
    token = bearer_token(request)
    if tokens.TOKEN_PATTERN.fullmatch(token):  # a malformed token costs no query
        now = await context.now(context.pool)
        with suppress(Unauthorized):
            return await tokens.authenticate(context.pool, token, now), now
    await _count_invalid(context, request)
    raise Unauthorized(AUTH_HINT)


async def _count_invalid(context: WebContext, request: Request) -> None:
    client = client_address(request, context.config.trusted_proxies)
    wait = await context.token_failures.count(client)
    if wait:
        detail = f"more than {TOKEN_FAILURES} requests without a valid token in a minute"
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"retry-after": str(wait)})
