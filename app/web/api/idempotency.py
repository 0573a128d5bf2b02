"""Idempotency keys: a POST that is sent again with its key is made once and answered alike."""

import hashlib
import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from app.core.errors import Conflict, OverLimit
from app.store import tenancy
from app.store.orgs import idempotency as store
from app.store.orgs.idempotency import KeptAnswer
from app.web.api import problems
from app.web.api.context import ApiRequest
from app.web.api.endpoint import Endpoint

HEADER = "idempotency-key"
MAX_LENGTH = 200
PATTERN = "^[!-~]+$"  # printable ASCII characters without spaces, as JSON Schema writes it
REPLAYED = {"idempotency-replayed": "true"}
_KEY = re.compile(PATTERN)


def key_of(request: Request) -> str | None:
    """The idempotency key of the request, or None. Raises Problem (422) for an invalid one."""
    key = request.headers.get(HEADER)
    if key is not None and (len(key) > MAX_LENGTH or not _KEY.fullmatch(key)):
        what = f"must be 1 to {MAX_LENGTH} printable ASCII characters without spaces"
        raise problems.of_field(HEADER, what)
    return key


async def respond_once(
    request: ApiRequest, endpoint: Endpoint, key: str, respond: Callable[[], Awaitable[Response]]
) -> Response:
    """Respond, or answer as the earlier request with this key was answered.

    A refused request keeps nothing. Raises Problem (422) for a key of another request, Conflict
    while the earlier one is under way, and OverLimit for too many keys in a day.
    """
    pool, org_id = request.context.pool, request.org_id
    async with tenancy.org_transaction(pool, org_id) as connection:
        earlier = await store.reserve(connection, org_id, key, _fingerprint(request, endpoint))
        if earlier is None and await store.count(connection, org_id) > store.MAX_KEYS:
            raise OverLimit(f"more than {store.MAX_KEYS} idempotency keys in 24 hours")
    if earlier is not None:
        return _again(earlier, _fingerprint(request, endpoint))
    try:
        response = await respond()
    except BaseException:
        async with tenancy.org_transaction(pool, org_id) as connection:
            await store.release(connection, org_id, key)
        raise
    body = bytes(response.body).decode() or None
    headers = {n: v for n, v in response.headers.items() if n in ("etag", "location")}
    async with tenancy.org_transaction(pool, org_id) as connection:
        await store.keep(connection, (org_id, key), response.status_code, body, headers)
    return response


def _again(earlier: KeptAnswer, fingerprint: bytes) -> Response:
    if earlier.fingerprint != fingerprint:
        raise problems.of_field(HEADER, "was used for another request")
    if earlier.status is None:
        raise Conflict("the request with this idempotency key is under way")
    headers = {"cache-control": "no-store"} | earlier.headers | REPLAYED
    media_type = None if earlier.body is None else "application/json"
    return Response(earlier.body, earlier.status, headers, media_type)


def _fingerprint(request: ApiRequest, endpoint: Endpoint) -> bytes:
    body = "" if request.body is None else request.body.model_dump_json()
    path = sorted((name, str(value)) for name, value in request.path.items())
    return hashlib.sha256(f"{endpoint.name} {path} {body}".encode()).digest()
