"""The examples of docs/collections.md: every request in them is one that the API takes."""

import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.core.enums import Scope
from app.orgs.tokens import TokenRequest, create_token
from app.store import tenancy
from app.store.db import Pool
from app.store.orgs import webhooks
from tests.api.clients import (
    ODDS,
    Org,
    Visitor,
    had_item,
    had_run,
    own_secret,
    preset,
    stored_source,
    wares,
)
from tests.clock import NOON

DOCUMENT = Path(__file__).parents[2] / "docs" / "collections.md"
WEBHOOK = UUID("00000000-0000-4000-8000-00000000acce")
SOURCE = "books"  # of which the examples speak
EXAMPLE_RUN = "5f0c7f3e-7f0e-4d0c-9a43-0b9b6f1c2d11"
# What an example may be answered where the test has not what it names: said in the API's own words.
NOT_THERE = (404, 409, 410, 412)
NO_ADDRESS = "there is no such path"


@dataclass(frozen=True, slots=True)
class Example:
    """A request as an example writes it for curl."""

    line: int
    operator: bool
    method: str
    path: str
    headers: dict[str, str]
    body: str | None

    def __str__(self) -> str:
        return f"{self.line}-{self.method}-{self.path.partition('?')[0]}"


def examples() -> list[Example]:
    """The requests of the document; a quoted body may have several lines."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found: list[Example] = []
    for match in re.finditer(r"^curl (?:'[^']*'|[^'\n])*$", text, re.MULTILINE):
        words = shlex.split(match[0], comments=True)
        line = text.count("\n", 0, match.start()) + 1
        found.append(_example(line, words[1:]))
    return found


def _example(line: int, words: list[str]) -> Example:
    method, address, headers, body, operator = "", "", dict[str, str](), None, False
    rest = iter(words)
    for word in rest:
        if word == "-H":
            header = next(rest)
            operator |= header == "$operator"
            if header == "$json":
                headers["content-type"] = "application/json"
            elif not header.startswith("$"):
                name, value = header.split(": ", 1)
                headers[name] = value
        elif word == "-X":
            method = next(rest)
        elif word == "-d":
            body = next(rest)
        elif word in {"-o", ">>"}:
            next(rest)
        elif word.startswith("$api"):
            address = word.removeprefix("$api")
        else:
            assert word == "-N", f"line {line}: what is {word}?"
    return Example(line, operator, method or ("POST" if body else "GET"), address, headers, body)


EXAMPLES = examples()


def test_there_are_examples_of_what_organisations_and_operators_do() -> None:
    assert {example.operator for example in EXAMPLES} == {True, False}
    assert {example.method for example in EXAMPLES} >= {"GET", "POST", "PATCH", "PUT", "DELETE"}


# The client of the tests would wait for the end of a stream; test_changes.py reads it.
@pytest.mark.parametrize("example", [e for e in EXAMPLES if "/stream" not in e.path], ids=str)
async def test_an_example_is_a_request_that_the_api_takes(
    visitor: Visitor, pool: Pool, org: Org, example: Example
) -> None:
    names = await _furnish(visitor, pool, org)
    operator = TokenRequest(None, "laptop", Scope.ADMIN)
    secret = await create_token(pool, operator, NOON, by="test") if example.operator else None
    path = example.path.replace("wait=30", "wait=0")
    for name, value in names.items():
        path = re.sub(rf"(?<=/){name}(?=[/?]|$)", value, path)

    body = json.dumps({"recipe": wares(SOURCE)}) if example.body == "@books.json" else example.body

    asker = replace(visitor, secret=secret or visitor.secret)
    answer = await asker(example.method, path, content=body, headers=example.headers)

    assert answer.is_success or _not_there(answer), f"{answer.status_code}: {answer.text}"


def _not_there(answer: httpx.Response) -> bool:
    return answer.status_code in NOT_THERE and answer.json()["detail"] != NO_ADDRESS


async def _furnish(visitor: Visitor, pool: Pool, org: Org) -> dict[str, str]:
    """Give the organisation one of each; return what stands in the examples for it."""
    await visitor.patch(preset_id=ODDS, enabled=True)
    spare = await preset(visitor)
    run_id = await had_run(pool, org, NOON)
    await had_item(pool, org, NOON)
    await stored_source(pool, org, SOURCE)
    await own_secret(visitor)
    async with tenancy.org_transaction(pool, org.id) as connection:
        row = (WEBHOOK, "https://hooks.example/in", b"")
        await webhooks.add(connection, org.id, row, NOON, "test")
    return {
        "organizations/ID": f"organizations/{org.id}",
        "webhooks/ID": f"webhooks/{WEBHOOK}",
        "presets/ID": f"presets/{spare}",
        "TOKEN_ID": str(UUID(org.secrets[Scope.READ][3:35])),
        "RUN_ID": str(run_id),
        EXAMPLE_RUN: str(run_id),
        "KEY": "12:00:00",
    }
