"""Parsing and strict validation of requests: body, query, path parameters and If-Match."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from app.core.errors import NotFound, StaleEdit
from app.web.api import problems
from app.web.api.problems import Problem
from app.web.api.schemas.base import PATH_PATTERNS

MAX_BODY_BYTES = 65_536
MAX_PARAMETERS = 100  # of a query; each that is not known costs time
CONTAINS_NUL = "contains the character U+0000"  # which Postgres cannot store
JSON_TYPES = ("application/json", "application/merge-patch+json")
_REVISION = re.compile(r'"(\d{1,9})"')

Model = TypeVar("Model", bound=BaseModel)


async def body(request: Request, model: type[Model], *, optional: bool) -> Model:
    """Return the body as the model. Raises Problem: 413, 415, 400 or 422."""
    raw = await _raw(request)
    if not raw and optional:
        raw = b"{}"
    else:
        _check_type(request)
    _check_text(raw)
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise problems.of_validation(error, model.model_fields, "body") from None


def query(request: Request, model: type[Model]) -> Model:
    """Return the query as the model. Raises Problem: 422."""
    pairs = request.query_params.multi_items()
    if len(pairs) > MAX_PARAMETERS:
        raise problems.of_field("query", f"has more than {MAX_PARAMETERS} parameters")
    names = [name for name, _ in pairs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise problems.of_field(repeated[0], "is given more than once")
    for name, value in pairs:
        if "\x00" in name + value:
            raise problems.of_field(name.replace("\x00", ""), CONTAINS_NUL)
    try:
        return model.model_validate(dict(pairs))
    except ValidationError as error:
        raise problems.of_validation(error, model.model_fields, "query") from None


def path(request: Request) -> Mapping[str, Any]:
    """Return the path parameters, ids as UUID. Raises NotFound for an invalid id or name."""
    params = cast("dict[str, str]", request.path_params)
    if any("\x00" in value for value in params.values()):
        raise NotFound("there is nothing with that name")
    for name, pattern in PATH_PATTERNS.items():
        if name in params and not re.fullmatch(pattern, params[name]):
            raise NotFound(f"there is nothing with that name: it must match {pattern}")
    try:
        return {
            name: UUID(value) if name.endswith("_id") else value
            for name, value in params.items()
            if name != "path"
        }
    except ValueError:
        raise NotFound("there is nothing with that id") from None


def revision(request: Request) -> int | None:
    """Return the revision in If-Match; None for `*` or no header. Raises StaleEdit if malformed."""
    header = request.headers.get("if-match", "*").strip()
    if header == "*":
        return None
    match = _REVISION.fullmatch(header)
    if match is None:
        raise StaleEdit('If-Match must be the ETag of an earlier response, like "3", or *')
    return int(match[1])


async def _raw(request: Request) -> bytes:
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MAX_BODY_BYTES:
            detail = f"the body is larger than {MAX_BODY_BYTES:,} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return bytes(read)


def _check_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in JSON_TYPES:
        detail = "the body must be JSON: Content-Type: application/json"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def _check_text(raw: bytes) -> None:
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not valid JSON: {error}") from None
    if _contains_nul(value):
        raise problems.of_field("body", f"a string {CONTAINS_NUL}")


def _contains_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return any("\x00" in key or _contains_nul(item) for key, item in pairs)
    if isinstance(value, list):
        return any(map(_contains_nul, cast("list[Any]", value)))
    return False
