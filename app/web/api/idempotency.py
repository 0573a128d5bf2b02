"""Idempotency keys: a POST that is sent again with its key is made once and answered alike.

What a request writes is committed together with a first answer, which says only that it was made.
So it is never made again, also if the process or the connection ends before its answer is kept.
An answer that has a secret is kept encrypted with a key that the client's token is part of: only a
request with the token can read it again.
"""

import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from app.core.errors import Conflict, OverLimit
from app.store import db, tenancy
from app.store.orgs import idempotency as store
from app.store.orgs.idempotency import KeptAnswer
from app.web.api import problems
from app.web.api.auth import bearer_token
from app.web.api.context import ApiRequest
from app.web.api.endpoint import Endpoint
from app.web.api.problems import Problem

HEADER = "idempotency-key"
MAX_LENGTH = 200
PATTERN = "^[!-~]+$"  # printable ASCII characters without spaces, as JSON Schema writes it
NONCE_BYTES = 12
MADE = "the request with this idempotency key was made; its answer was not kept, or not yet"
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
    pool, org_id = request.context.pool, request.principal.org_id
    async with tenancy.transaction(pool, org_id) as connection:
        earlier = await store.reserve(connection, org_id, key, _fingerprint(request, endpoint))
        if earlier is None and await store.count(connection, org_id) > store.MAX_KEYS:
            raise OverLimit(f"more than {store.MAX_KEYS} idempotency keys in 24 hours")
    if earlier is not None:
        return _again(earlier, request, endpoint)
    made = Problem(HTTPStatus.CONFLICT, MADE).response()
    kept = _kept_body(request, endpoint, made)
    keep_first = partial(store.keep_first, (org_id, key), made.status_code, kept)
    try:
        with db.ending_with(keep_first):
            response = await respond()
    except BaseException:
        async with tenancy.transaction(pool, org_id) as connection:
            await store.release(connection, org_id, key)
        raise
    body = _kept_body(request, endpoint, response)
    headers = {n: v for n, v in response.headers.items() if n in ("etag", "location")}
    async with tenancy.transaction(pool, org_id) as connection:
        await store.keep(connection, (org_id, key), response.status_code, body, headers)
    return response


def _kept_body(request: ApiRequest, endpoint: Endpoint, response: Response) -> str | None:
    body = bytes(response.body).decode() or None
    if endpoint.secret and body is not None:
        return _seal(request.sealing_key, body)
    return body


def _again(earlier: KeptAnswer, request: ApiRequest, endpoint: Endpoint) -> Response:
    if earlier.fingerprint != _fingerprint(request, endpoint):
        raise problems.of_field(HEADER, "was used for another request")
    if earlier.status is None:
        raise Conflict("the request with this idempotency key is under way")
    headers = {"cache-control": "no-store"} | earlier.headers | REPLAYED
    body = earlier.body
    if endpoint.secret and body is not None:
        body = _open(request.sealing_key, body)
    made = "application/json" if earlier.status < HTTPStatus.BAD_REQUEST else problems.MEDIA_TYPE
    media_type = None if body is None else made
    return Response(body, earlier.status, headers, media_type)


def sealing_key(request: Request, key: str) -> bytes:
    """The key that encrypts an answer: of the token, which is not stored, and the key."""
    token = bearer_token(request)
    return hashlib.sha256(f"rollcall idempotency {key} {token}".encode()).digest()


def _seal(key: bytes, text: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 12 MB

    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text.encode(), None)).decode()


def _open(key: bytes, sealed: str) -> str:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as in `_seal`
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    raw = base64.b64decode(sealed)
    try:
        return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], None).decode()
    except InvalidTag:
        raise Conflict(
            "the request with this idempotency key was made with another token, which alone can"
            " read its answer"
        ) from None


def _fingerprint(request: ApiRequest, endpoint: Endpoint) -> bytes:
    body = "" if request.body is None else request.body.model_dump_json()
    path = sorted((name, str(value)) for name, value in request.path.items())
    return hashlib.sha256(f"{endpoint.name} {path} {body}".encode()).digest()
