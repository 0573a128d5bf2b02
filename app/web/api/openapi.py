"""The OpenAPI 3.1 document, built from the endpoint table and the pydantic models."""

import json
import re
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.core.version import VERSION
from app.web.api import idempotency, problems
from app.web.api.endpoint import Endpoint
from app.web.api.problems import ProblemBody
from app.web.api.schemas.base import PATH_PATTERNS
from app.web.api.table import ENDPOINTS

REF = "#/components/schemas/{model}"
COMMON_ERRORS = (401, 403, 422, 429, 503)  # error statuses of every endpoint
BODY_ERRORS = (400, 413, 415)
HEADERS = {
    "etag": "The revision, for If-Match.",
    "location": "The path of the new resource.",
    "www-authenticate": "The authentication scheme.",
    "retry-after": "Seconds after which to try again.",
}

Json = dict[str, Any]
IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that is sent again with its key within 24 hours is made once.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": idempotency.MAX_LENGTH,
        "pattern": idempotency.PATTERN,
    },
}
Mode = Literal["validation", "serialization"]


def document(endpoints: Iterable[Endpoint] = ENDPOINTS) -> Json:
    """Return the whole document."""
    listed = list(endpoints)
    paths: dict[str, Json] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rollcall collections",
            "version": VERSION,
            "description": "Organisations' collections, and the operator's jobs and data.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(listed),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(endpoint: Endpoint) -> Json:
    owner = "an operator's" if endpoint.operator else "an organisation's"
    also = ", or an organisation's with `data`" if endpoint.data else ""
    operation: Json = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": f"Needs {owner} token of scope `{endpoint.scope.value}`{also}.",
        "parameters": [*_in_path(endpoint), *_in_query(endpoint), *_in_headers(endpoint)],
        "responses": _responses(endpoint),
    }
    if endpoint.body_model is not None:
        operation["requestBody"] = {
            "required": endpoint.needs_body,
            "content": {"application/json": {"schema": _ref(endpoint.body_model)}},
        }
    return operation


def _in_path(endpoint: Endpoint) -> list[Json]:
    names = re.findall(r"{(\w+)}", endpoint.path)
    return [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in names
    ]


def _path_schema(name: str) -> Json:
    if name.endswith("_id"):
        return {"type": "string", "format": "uuid"}
    pattern = PATH_PATTERNS.get(name)
    return {"type": "string", "minLength": 1} | ({} if pattern is None else {"pattern": pattern})


def _in_query(endpoint: Endpoint) -> list[Json]:
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema(ref_template=REF)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _not_null(field)}
        for name, field in schema["properties"].items()
    ]


def _not_null(schema: Json) -> Json:
    # A query parameter cannot be null, only absent.
    plain: Json = {key: value for key, value in schema.items() if key != "anyOf"}
    for alternative in schema.get("anyOf", ()):
        plain |= alternative if alternative != {"type": "null"} else {}
    return {key: value for key, value in plain.items() if (key, value) != ("default", None)}


def _in_headers(endpoint: Endpoint) -> list[Json]:
    found = [IDEMPOTENCY_KEY] if endpoint.takes_key else []
    if not endpoint.if_match:
        return found
    return [
        *found,
        {
            "name": "If-Match",
            "in": "header",
            "required": False,
            "description": "The ETag that the edit is based on; 412 if it is no longer current.",
            "schema": {"type": "string", "examples": ['"3"', "*"]},
        },
    ]


def _responses(endpoint: Endpoint) -> Json:
    statuses = {*COMMON_ERRORS, *endpoint.errors}
    statuses |= set(BODY_ERRORS) if endpoint.body_model is not None else set()
    statuses |= {412} if endpoint.if_match else set()
    statuses |= {409} if endpoint.takes_key else set()
    statuses |= {404} if "{" in endpoint.path else set()
    return {str(endpoint.status): _success(endpoint)} | {
        str(status): _error(status) for status in sorted(statuses)
    }


def _success(endpoint: Endpoint) -> Json:
    names = ["etag"] if endpoint.etag else []
    names += ["location"] if endpoint.status in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED) else []
    response: Json = {"description": HTTPStatus(endpoint.status).phrase, "headers": _headers(names)}
    content = {
        media_type.partition(";")[0]: {"schema": {"type": "string"}}
        for media_type in endpoint.stream
    }
    if endpoint.response is not None:
        content = {"application/json": {"schema": _ref(endpoint.response)}} | content
    return response | ({"content": content} if content else {})


def _error(status: int) -> Json:
    names = {401: ["www-authenticate"], 429: ["retry-after"], 503: ["retry-after"]}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _headers(names.get(status, [])),
        "content": {problems.MEDIA_TYPE: {"schema": _ref(ProblemBody)}},
    }


def _headers(names: Iterable[str]) -> Json:
    return {
        name: {"required": True, "description": HEADERS[name], "schema": {"type": "string"}}
        for name in names
    }


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": REF.format(model=str(model.model_config.get("title") or model.__name__))}


def _schemas(endpoints: Iterable[Endpoint]) -> Json:
    models: dict[tuple[type[BaseModel], Mode], None] = {(ProblemBody, "serialization"): None}
    for endpoint in endpoints:
        for model in filter(None, (endpoint.body_model, endpoint.query)):
            models[model, "validation"] = None
        if endpoint.response is not None:
            models[endpoint.response, "serialization"] = None
    _, schema = models_json_schema(list(models), ref_template=REF)
    defined: Json = schema["$defs"]
    return {str(model.get("title", name)): model for name, model in defined.items()}


@cache
def as_json() -> bytes:
    """The document as it is served. It is made once, when it is first asked for."""
    return json.dumps(document(), indent=1).encode()
