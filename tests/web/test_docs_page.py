"""The page that documents the API: every operation, with examples that work, from here alone."""

import json
import re
import shlex
from html import unescape
from typing import Any

import httpx
import pytest

from app.web.api import openapi
from app.web.api.table import ENDPOINTS
from app.web.docs_page import operation_docs
from tests.api.clients import Visitor, api, org, visitor

__all__ = ["api", "org", "visitor"]


async def test_it_has_every_operation_and_loads_nothing_from_elsewhere(
    api: httpx.AsyncClient,
) -> None:
    page = await api.get("/docs")

    assert page.status_code == 200
    text = unescape(page.text)
    for endpoint in ENDPOINTS:
        assert f"<code>{endpoint.method} {endpoint.path}</code>" in text
    linked = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert [link for link in linked if not link.startswith(("/", "#"))] == []
    anchors = set(re.findall(r'id="([^"]*)"', page.text))
    assert {link[1:] for link in linked if link.startswith("#")} <= anchors


@pytest.mark.usefixtures("org")
async def test_an_example_is_a_request_that_works(visitor: Visitor) -> None:
    found = {one.name: one for one in operation_docs(openapi.document())}

    words = shlex.split(found["preview_schedule"].curl.replace("$API", ""))
    body: dict[str, Any] = json.loads(shlex.split(found["create_webhook"].curl)[-2])
    made = await visitor("POST", found["create_webhook"].path, json=body)

    assert words[:2] == ["curl", "-H"]
    assert words[-1] == "/collection/schedule/preview"
    assert made.status_code == 201
    assert found["create_webhook"].python == f"client.post('/collection/webhooks', json={body!r})"
