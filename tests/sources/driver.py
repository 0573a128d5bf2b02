"""Drives a source's generators with canned answers, as the collector does with real ones."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from app.core.messages import Partition, RawPage, SourceRequest

T = TypeVar("T")
PART = Partition("football")


@dataclass
class Driven(Generic[T]):
    """What a generator asked, and what it returned in the end."""

    result: T
    requests: list[SourceRequest] = field(default_factory=list[SourceRequest])


def raw(body: bytes | str | object, *, status: int = 200, page: int = 1) -> RawPage:
    """An answer with that body; what is neither bytes nor text is written as JSON."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    then = datetime(2026, 9, 5, 12, tzinfo=UTC)
    return RawPage(body, status, "https://site.test/page", {}, then, PART, page)


def drive(
    asking: Generator[SourceRequest, RawPage, T], answer: Callable[[int], object]
) -> Driven[T]:
    """Send `answer(page)` to each request, pages counting from 1, until the generator returns."""
    requests: list[SourceRequest] = []
    try:
        requests.append(next(asking))
        while True:
            page = len(requests)
            requests.append(asking.send(raw(answer(page), page=page)))
    except StopIteration as stop:
        return Driven(stop.value, requests)


def saved(path: str) -> Any:
    """A saved page, read."""
    return json.loads((Path(__file__).parent / path).read_bytes())
