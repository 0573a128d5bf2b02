"""A typed Python client, generated from the OpenAPI document: one file that needs only httpx."""

import keyword
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from app.web.api import openapi

Json = dict[str, Any]
JSON = "application/json"
PLAIN = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "object": "dict[str, Any]",
}

HEADER = '''"""Client of Rollcall {version}, generated from its /openapi.json. Needs httpx.

async with Client("https://rollcall.example", "rc_…") as api:
    async for page in pages(api.list_items, source="books"):
        for item in page["items"]:
            print(item["key"])
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal, NotRequired, Self, TypedDict, cast
from urllib.parse import quote

import httpx


class Refused(Exception):
    """The API refused the request: `status`, and `problem` with `detail` and perhaps `errors`."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.retry_after = answer.headers.get("retry-after")
        try:
            self.problem: dict[str, Any] = answer.json()
        except ValueError:
            self.problem = {{"detail": answer.text}}
        super().__init__(f"{{self.status}}: {{self.problem.get('detail')}}")


async def pages(
    call: Callable[..., Awaitable[Any]], *args: Any, **asked: Any
) -> AsyncIterator[Any]:
    """Yield every page of a list, by its `next_cursor`."""
    cursor = None
    while True:
        page = await call(*args, **asked, cursor=cursor)
        yield page
        cursor = page["next_cursor"]
        if cursor is None:
            return
'''

CLIENT = '''

class Client:
    """The API at an address, for a token. `http`: a client of your own, closed with this one."""

    def __init__(
        self, address: str, token: str, *, http: httpx.AsyncClient | None = None
    ) -> None:
        self._address = address.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"}
        self._http = http or httpx.AsyncClient(timeout=60)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str | None],
        body: Any = None,
    ) -> httpx.Request:
        given = {name: _text(value) for name, value in query.items() if value is not None}
        sent = self._headers | {n: v for n, v in headers.items() if v is not None}
        json = {} if body is None else {"json": body}
        return self._http.build_request(
            method, self._address + path, params=given, headers=sent, **json
        )

    async def _answer(self, request: httpx.Request) -> Any:
        answer = await self._http.send(request)
        if not answer.is_success:
            raise Refused(answer)
        if not answer.content:
            return None
        kind = answer.headers.get("content-type", "")
        return answer.json() if kind.startswith("application/json") else answer.text

    async def _parts(self, request: httpx.Request) -> AsyncIterator[bytes]:
        answer = await self._http.send(request, stream=True)
        try:
            if not answer.is_success:
                await answer.aread()
                raise Refused(answer)
            async for part in answer.aiter_bytes():
                yield part
        finally:
            await answer.aclose()
'''

FOOTER = """

def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
"""


async def client_module(_: Request) -> Response:
    """The client as a file. It contains nothing of any organisation and needs no session."""
    headers = {
        "cache-control": "max-age=300",
        "content-disposition": 'attachment; filename="rollcall_client.py"',
    }
    return Response(_source(), headers=headers, media_type="text/x-python; charset=utf-8")


@cache
def _source() -> str:
    return client_source(openapi.document())


def client_source(document: Json) -> str:
    """Return the text of the module."""
    types = "".join(_type_of(*each) for each in sorted(document["components"]["schemas"].items()))
    methods = "".join(
        _method(path, method.upper(), operation)
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    )
    header = HEADER.format(version=document["info"]["version"])
    return header + types + CLIENT + methods + FOOTER


def _type_of(name: str, schema: Json) -> str:
    if "properties" not in schema:
        return f"\n\n{name} = {_annotation(schema, forward=True)}\n"
    required = schema.get("required", [])
    fields = {
        field: _annotation(said) if field in required else f"NotRequired[{_annotation(said)}]"
        for field, said in schema["properties"].items()
    }
    if any(not field.isidentifier() or keyword.iskeyword(field) for field in fields):
        pairs = ", ".join(f"{field!r}: {kind!r}" for field, kind in fields.items())
        return f"\n\n{name} = TypedDict({name!r}, {{{pairs}}})\n"
    lines = "".join(f"\n    {field}: {kind}" for field, kind in fields.items())
    doc = _docstring(schema.get("description", f"{name}."), "    ")
    return f"\n\nclass {name}(TypedDict):\n{doc}{lines}\n"


def _annotation(schema: Json, *, forward: bool = False) -> str:
    """Return the type of a schema. `forward`: it is evaluated before the names that it has."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return repr(name) if forward else name
    if "anyOf" in schema:
        return " | ".join(
            dict.fromkeys(_annotation(one, forward=forward) for one in schema["anyOf"])
        )
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return f"Literal[{', '.join(map(repr, values))}]"
    if schema.get("type") == "array":
        return f"list[{_annotation(schema.get('items', {}), forward=forward)}]"
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        return f"dict[str, {_annotation(cast('Json', more), forward=forward)}]"
    return PLAIN.get(str(schema.get("type")), "Any")


def _method(path: str, method: str, operation: Json) -> str:
    by_place: dict[str, list[Json]] = {"path": [], "query": [], "header": []}
    for parameter in operation["parameters"]:
        by_place[parameter["in"]].append(parameter)
    streams, answer = _answer(operation)
    body = operation.get("requestBody")
    call = [
        repr(method),
        _path(path),
        _mapping(by_place["query"], lower=False),
        _mapping(by_place["header"], lower=True),
        *(["body"] if body else []),
    ]
    request = f"self._request({', '.join(call)})"
    start = "def" if streams else "async def"
    if streams:
        result = f"return self._parts({request})"
    elif answer == "None":
        result = f"await self._answer({request})"
    else:
        result = f"return cast({answer!r}, await self._answer({request}))"
    arguments = "".join(f"\n        {one}," for one in _arguments(by_place, body))
    doc = _docstring(f"{operation['summary']}. {operation['description']}", "        ")
    return (
        f"\n    {start} {operation['operationId']}({arguments}\n    ) -> {answer}:\n"
        f"{doc}        {result}\n"
    )


def _arguments(by_place: dict[str, list[Json]], body: Json | None) -> Iterator[str]:
    yield "self"
    for one in by_place["path"]:
        yield f"{_name(one)}: {_annotation(one['schema'])}"
    if body is not None:
        model = _annotation(body["content"][JSON]["schema"])
        yield f"body: {model}" if body["required"] else f"body: {model} | None = None"
    named = by_place["query"] + by_place["header"]
    if named:
        yield "*"
    for one in sorted(named, key=lambda one: not one["required"]):
        kind = _annotation(one["schema"])
        yield f"{_name(one)}: {kind}" if one["required"] else f"{_name(one)}: {kind} | None = None"


def _answer(operation: Json) -> tuple[bool, str]:
    """Return whether the answer is streamed, and its type."""
    content: Json = next(iter(operation["responses"].values())).get("content", {})
    if not content:
        return False, "None"
    if JSON not in content:
        return True, "AsyncIterator[bytes]"
    model = _annotation(content[JSON]["schema"])
    return False, model if len(content) == 1 else f"{model} | str"


def _path(path: str) -> str:
    if "{" not in path:
        return repr(path)
    return "f" + repr(path.replace("{", "{quote(").replace("}", ", safe='')}"))


def _mapping(parameters: list[Json], *, lower: bool) -> str:
    pairs = (
        f"{(one['name'].lower() if lower else one['name'])!r}: {_name(one)}" for one in parameters
    )
    return "{" + ", ".join(pairs) + "}"


def _name(parameter: Json) -> str:
    name = str(parameter["name"]).replace("-", "_").lower()
    return f"{name}_" if keyword.iskeyword(name) else name


def _docstring(text: str, indent: str) -> str:
    escaped = text.replace("\\", "\\\\")
    lines = [f"{indent}{line}".rstrip() for line in escaped.splitlines()]
    return f'{indent}"""' + "\n".join(lines).lstrip() + '"""\n'
