"""A recipe tried: a page or two of each of a few partitions, as a run would read them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.authoring.page import Eye
from app.errors import Failure
from app.fetch.keyed import AnyWindow
from app.messages import Partition, Raw
from app.recipes.sandbox import Sandbox
from app.recipes.source import RecipeSource
from app.records import Item, Rejected


@dataclass(frozen=True, slots=True)
class Seen:
    """A page that was read, or could not be. `seconds`: to have it, and to read it."""

    partition: str
    page: int
    raw: Raw | None
    rows: tuple[Item, ...] = ()
    refused: tuple[Rejected, ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)
    failure: Failure | None = None
    more: bool = False


async def read(source: RecipeSource, raw: Raw, sandbox: Sandbox) -> tuple[Raw, list[Any]]:
    """A page read in a process that may be killed, and its records. Raises Failure."""
    errand = await asyncio.to_thread(source.errand, raw)
    answer = await sandbox.read(source.window, errand)
    return await asyncio.to_thread(_understood, source, raw, answer)


def _understood(source: RecipeSource, raw: Raw, answer: bytes) -> tuple[Raw, list[Any]]:
    raw = source.returned(raw, answer)
    return raw, list(source.parse(raw))


async def tried(
    source: RecipeSource, eye: Eye, window: AnyWindow, *, parts: int, pages: int
) -> list[Seen]:
    """What up to `pages` pages of each of the first `parts` partitions have."""
    seen = list[Seen]()
    for part in _partitions(source)[:parts]:
        seen += await _walked(source, part, (eye, window), pages)
    return seen


def _partitions(source: RecipeSource) -> Sequence[Partition]:
    try:
        next(source.partitions())
    except StopIteration as stop:
        return stop.value
    return ()


async def _walked(
    source: RecipeSource, part: Partition, means: tuple[Eye, AnyWindow], pages: int
) -> list[Seen]:
    eye, window = means
    seen, asking = list[Seen](), source.pages(part)
    raw: Raw | None = None
    try:
        request = next(asking)
        for number in range(1, pages + 1):
            raw, had = await eye.ask(window, request, part, number)
            started = time.monotonic()
            raw, records = await read(source, raw, eye.sandbox)
            took = (had, time.monotonic() - started)
            seen.append(_page(part, raw, records, took))
            request = asking.send(raw)
        seen[-1:] = [_more(seen[-1])]
    except StopIteration:
        pass
    except Failure as failure:
        seen.append(Seen(part.key, len(seen) + 1, raw, failure=failure))
    return seen


def _page(part: Partition, raw: Raw, records: Sequence[Any], took: tuple[float, float]) -> Seen:
    rows = tuple(record for record in records if isinstance(record, Item))
    refused = tuple(record for record in records if isinstance(record, Rejected))
    return Seen(part.key, raw.page, raw, rows, refused, took)


def _more(seen: Seen) -> Seen:
    return Seen(
        seen.partition, seen.page, seen.raw, seen.rows, seen.refused, seen.seconds, more=True
    )
