"""The document says what the routes do: each against the other, and a machine against both."""

import asyncio
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any
from uuid import UUID

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from starlette.routing import Mount, Route

from app.core.enums import Scope
from app.orgs.tokens import TokenRequest, create_token
from app.store.db import Pool
from app.web.api import openapi
from app.web.api.endpoint import Endpoint
from app.web.api.routes import BearerRoute, routes
from app.web.api.table import ENDPOINTS
from tests.api.clients import (
    ODDS,
    Org,
    Visitor,
    had_item,
    had_run,
    own_secret,
    preset,
    stored_source,
)
from tests.clock import NOON

machine_checks: Any = import_module("schemathesis.checks")
# Otherwise imported by the first test, beside threads that compile too, which Python before 3.11.5
# does not bear: https://github.com/python/cpython/issues/106905.
import_module("schemathesis.specs.openapi.schemas")
# This client would wait for the end of a stream; test_changes.py reads it.
ANSWERED = [one for one in ENDPOINTS if "text/event-stream" not in one.stream]
# What has neither a body nor a query can be asked in no wrong way.
ASKED = [
    (endpoint, mode)
    for endpoint in ANSWERED
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or endpoint.body_model or endpoint.query
]
EXAMPLES = 25  # of each operation, and each way
# `ignored_auth` and `unsupported_method` would ask by themselves, past our client; test_door does.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
TOO_LARGE = 413
REFUSE = (*CHECKS, "negative_data_rejection")


async def test_the_document_has_every_route_and_no_other(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    mounts = [route for route in routes() if isinstance(route, Mount)]
    below = [
        (mount.path + one.path, one)
        for mount in mounts
        for one in mount.routes
        if isinstance(one, Route)
    ]
    lists = [(one.path, one) for one in routes() if isinstance(one, BearerRoute)]
    routed = {
        (method, path.replace(":path}", "}"))
        for path, route in (*below, *lists)
        for method in (route.methods or set()) - {"HEAD"}
    }
    written = {(m.upper(), path) for path, said in document["paths"].items() for m in said}
    assert written == routed == {(one.method, one.path) for one in ENDPOINTS}
    assert document["openapi"] == "3.1.0"


async def test_every_operation_says_its_scope_and_its_refusals(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()

    for endpoint in ENDPOINTS:
        said = document["paths"][endpoint.path][endpoint.method.lower()]
        assert endpoint.scope.value in said["description"]
        assert {"401", "403", "429", "503"} < set(said["responses"])
        assert ("412" in said["responses"]) is endpoint.if_match


def test_the_document_is_a_valid_one() -> None:
    schemathesis.openapi.from_dict(openapi.document()).validate()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("endpoint", "mode"), ASKED, ids=[f"{one.name}-{mode.value}" for one, mode in ASKED]
)
async def test_whatever_a_machine_asks_the_answer_is_as_the_document_says(
    visitor: Visitor, pool: Pool, org: Org, endpoint: Endpoint, mode: GenerationMode
) -> None:
    wanted = TokenRequest(None, "laptop", Scope.ADMIN)
    operator = replace(visitor, secret=await create_token(pool, wanted, NOON, by="test"))
    asker = operator if endpoint.operator else visitor
    mine = await preset(visitor)
    await visitor.patch(preset_id=mine if endpoint.path.endswith("}") else ODDS, enabled=True)
    run_id = await had_run(pool, org, NOON)
    await had_item(pool, org, NOON)
    await stored_source(pool, org)
    await own_secret(visitor)
    known = {"preset_id": mine, "run_id": str(run_id), "name": "wares", "secret": "TOKEN"}
    known |= {"collection": "default", "key": "12:00:00", "what": "items"}
    known |= {"org_id": str(org.id), "token_id": str(UUID(org.secrets[Scope.READ][3:35]))}
    if endpoint.operator:
        known |= {"key": f"collection:{org.id}"}
    made = await visitor("POST", "/collection/webhooks", json={"url": "https://example.com/in"})
    known |= {"webhook_id": made.json()["id"]}
    loop = asyncio.get_running_loop()
    operation: Any = _schema()[endpoint.path][endpoint.method]
    names = REFUSE if mode is GenerationMode.NEGATIVE else CHECKS
    checks = [getattr(machine_checks, name) for name in names]
    plain = [getattr(machine_checks, name) for name in CHECKS]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def explore(case: Any) -> None:
        for name in set(case.path_parameters or {}) & set(known):
            if mode is GenerationMode.POSITIVE:
                case.path_parameters[name] = known[name]
        asked = asyncio.run_coroutine_threadsafe(_asked(asker, case), loop)
        answer = asked.result(30)
        # What is too large to be read is refused before it is found to be wrong.
        unread = answer.status_code == TOO_LARGE
        case.validate_response(answer, checks=plain if unread else checks)

    try:
        await asyncio.to_thread(explore)
    except FailureGroup as found:  # a group would take the fixtures down with it
        raise AssertionError(str(found)) from None


@cache
def _schema() -> Any:
    return schemathesis.openapi.from_dict(_without_tokens(openapi.document()))


def _without_tokens(document: dict[str, Any]) -> dict[str, Any]:
    # Else half of what it asks wrongly is only that it has no token.
    document["components"].pop("securitySchemes")
    document.pop("security")
    return document


def _at_once(params: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same without waiting for a change."""
    waits = params is not None and str(params.get("wait")) in map(str, range(31))
    return {**(params or {}), "wait": 0} if waits else params


async def _asked(visitor: Visitor, case: Any) -> Any:
    asked = case.as_transport_kwargs(base_url="http://web")
    request = httpx.Request(
        asked["method"],
        asked["url"],
        params=_at_once(asked.get("params")),
        headers=dict(asked.get("headers") or {}) | {"authorization": f"Bearer {visitor.secret}"},
        json=asked.get("json"),
        content=asked.get("data"),
    )
    return await visitor.client.send(request)
