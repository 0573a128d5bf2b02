"""The page at /docs: every operation of the API with examples, from the OpenAPI document.

It is rendered once, loads nothing from elsewhere, and needs no JavaScript.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.web.api import openapi
from app.web.dashboard import rendering

Json = dict[str, Any]
GROUP_PARTS = 2  # parts of a path that operations of one heading have in common
MAX_DEPTH = 3  # of nested schemas in an example


@dataclass(frozen=True, slots=True)
class OperationDoc:
    """One operation as the page shows it. `fields`: those of the body; `answer`: its schema."""

    name: str
    method: str
    path: str
    group: str
    summary: str
    description: str
    parameters: list[Json]
    fields: list[Json]
    statuses: list[tuple[str, str]]
    answer: str | None
    curl: str
    python: str


async def docs(_: Request) -> Response:
    """The page. It contains nothing of any organisation and needs no session."""
    return HTMLResponse(_rendered(), headers={"cache-control": "max-age=300"})


@cache
def _rendered() -> str:
    document = openapi.document()
    operations = list(operation_docs(document))
    groups: dict[str, list[OperationDoc]] = {}
    for one in operations:
        groups.setdefault(one.group, []).append(one)
    schemas = {
        name: {"description": schema.get("description", ""), "fields": _fields(schema)}
        for name, schema in sorted(document["components"]["schemas"].items())
        if "properties" in schema
    }
    return rendering.page(
        "docs.html", groups=groups, schemas=schemas, version=document["info"]["version"], user=None
    )


def operation_docs(document: Json) -> Iterator[OperationDoc]:
    """Yield every operation, in the order of the document."""
    schemas: Json = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield _operation(path, method.upper(), operation, schemas)


def _operation(path: str, method: str, operation: Json, schemas: Json) -> OperationDoc:
    body = operation.get("requestBody")
    model = body and schemas[_ref_name(body["content"]["application/json"]["schema"])]
    example = None if not model else _example(model, schemas, MAX_DEPTH)
    ok = next(iter(operation["responses"].values()))
    return OperationDoc(
        name=operation["operationId"],
        method=method,
        path=path,
        group="/".join(path.split("/")[: GROUP_PARTS + 1]),
        summary=operation["summary"],
        description=operation["description"],
        parameters=[
            {
                "name": one["name"],
                "in": one["in"],
                "required": one["required"],
                "type": _type(one["schema"]),
                "description": one.get("description", ""),
            }
            for one in operation["parameters"]
        ],
        fields=_fields(model) if model else [],
        statuses=[(code, said["description"]) for code, said in operation["responses"].items()],
        answer=_answer(ok),
        curl=_curl(method, path, example),
        python=_python(method, path, example),
    )


def _answer(response: Json) -> str | None:
    content = response.get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    return _ref_name(schema) if "$ref" in schema else ", ".join(content) or None


def _fields(schema: Json) -> list[Json]:
    required = schema.get("required", [])
    return [
        {"name": name, "type": _type(field), "required": name in required}
        for name, field in schema.get("properties", {}).items()
    ]


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return _ref_name(schema)
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _ref_name(schema: Json) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _example(schema: Json, schemas: Json, depth: int) -> Any:
    chosen = [*schema.get("examples", ()), *schema.get("enum", ())]
    if chosen:
        return chosen[0]
    if "$ref" in schema or "anyOf" in schema:
        nested = schemas[_ref_name(schema)] if "$ref" in schema else schema["anyOf"][0]
        return _example(nested, schemas, depth)
    if schema.get("properties") and depth:
        required = schema.get("required") or list(schema["properties"])[:2]
        properties = schema["properties"]
        return {name: _example(properties[name], schemas, depth - 1) for name in required}
    if schema.get("type") == "array" and depth:
        return [_example(schema.get("items", {}), schemas, depth - 1)]
    plain: Json = {"string": "…", "integer": 1, "number": 1, "boolean": True, "null": None}
    return plain.get(str(schema.get("type")), {})


def _curl(method: str, path: str, example: Any) -> str:
    parts = ['curl -H "Authorization: Bearer $TOKEN"']
    parts += [f"-X {method}"] if method != "GET" else []
    if example:
        text = json.dumps(example, ensure_ascii=False)
        parts.append(f"-H 'Content-Type: application/json' -d '{text}'")
    return " ".join([*parts, f'"$API{path}"'])


def _python(method: str, path: str, example: Any) -> str:
    body = f", json={example!r}" if example else ""
    return f"client.{method.lower()}({path!r}{body})"
