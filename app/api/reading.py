"""Reading a request: its body, its query, and which revision it speaks of. Nothing is guessed."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from app.api import problems
from app.api.problems import Problem
from app.errors import NotThere, Outdated
from app.recipes.model import NAME

MOST_BYTES = 65_536
JSON = ("application/json", "application/merge-patch+json")
_REVISION = re.compile(r'"(\d{1,9})"')

Model = TypeVar("Model", bound=BaseModel)


async def body(request: Request, model: type[Model], *, optional: bool) -> Model:
    """The body as the model. Raises Problem: 413, 415, 400 or 422."""
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
    """The query as the model. Raises Problem: 422."""
    said = request.query_params.multi_items()
    names = [name for name, _ in said]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise problems.of_field(twice[0], "is said more than once")
    try:
        return model.model_validate(dict(said))
    except ValidationError as error:
        raise problems.of_validation(error, model.model_fields, "query") from None


def path(request: Request) -> Mapping[str, Any]:
    """The ids in the address, and the names. Raises NotThere for what is no id, or no name."""
    said = cast("dict[str, str]", request.path_params)
    if not re.fullmatch(NAME, said.get("name", "any")):
        raise NotThere("there is nothing of that name")
    try:
        return {
            name: UUID(value) if name.endswith("_id") else value
            for name, value in said.items()
            if name != "path"
        }
    except ValueError:
        raise NotThere("there is nothing of that id") from None


def revision(request: Request) -> int | None:
    """The revision in If-Match; None if any will do. Raises Outdated for one that never was."""
    said = request.headers.get("if-match", "*").strip()
    if said == "*":
        return None
    match = _REVISION.fullmatch(said)
    if match is None:
        raise Outdated('If-Match takes the ETag of an earlier answer, like "3", or *')
    return int(match[1])


async def _raw(request: Request) -> bytes:
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MOST_BYTES:
            detail = f"the body is larger than {MOST_BYTES:,} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return bytes(read)


def _check_type(request: Request) -> None:
    said = request.headers.get("content-type", "")
    if said.partition(";")[0].strip().lower() not in JSON:
        detail = "the body must be JSON: Content-Type: application/json"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def _check_text(raw: bytes) -> None:
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {error}") from None
    if _holds_nul(value):
        raise problems.of_field("body", "a text holds the character U+0000")


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return any("\x00" in key or _holds_nul(item) for key, item in pairs)
    if isinstance(value, list):
        return any(map(_holds_nul, cast("list[Any]", value)))
    return False
