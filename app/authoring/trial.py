"""Trial of a recipe: fetch and parse a few pages of a few partitions, as a run would."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.authoring.page import PageFetcher
from app.core.errors import Failure
from app.core.messages import Partition, RawPage
from app.core.records import Item, Rejected
from app.fetch.authenticated import AnyFetcher
from app.sources.recipes.sandbox import Sandbox
from app.sources.recipes.source import RecipeSource


@dataclass(frozen=True, slots=True)
class TrialPage:
    """A page that was parsed, or the failure of it. `seconds`: to fetch it, and to parse it."""

    partition: str
    page: int
    raw: RawPage | None
    rows: tuple[Item, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)
    failure: Failure | None = None
    more: bool = False


async def parse_page(
    source: RecipeSource, raw: RawPage, sandbox: Sandbox
) -> tuple[RawPage, list[Any]]:
    """Parse a page in the sandbox; return it with its records. Raises Failure."""
    request = await asyncio.to_thread(source.sandbox_request, raw)
    result = await sandbox.read(source.fetcher_name, request)
    return await asyncio.to_thread(_records, source, raw, result)


def _records(source: RecipeSource, raw: RawPage, result: bytes) -> tuple[RawPage, list[Any]]:
    raw = source.with_sandbox_result(raw, result)
    return raw, list(source.parse(raw))


async def fetch_trial_pages(
    source: RecipeSource, fetcher: PageFetcher, window: AnyFetcher, *, parts: int, pages: int
) -> list[TrialPage]:
    """Return up to `pages` pages of each of the first `parts` partitions.

    A Failure ends its partition and is returned with the page.
    """
    fetched = list[TrialPage]()
    for part in _partitions(source)[:parts]:
        fetched += await _pages(source, part, (fetcher, window), pages)
    return fetched


def _partitions(source: RecipeSource) -> Sequence[Partition]:
    try:
        next(source.partitions())
    except StopIteration as stop:
        return stop.value
    return ()


async def _pages(
    source: RecipeSource, part: Partition, through: tuple[PageFetcher, AnyFetcher], limit: int
) -> list[TrialPage]:
    fetcher, window = through
    pages, requests = list[TrialPage](), source.pages(part)
    raw: RawPage | None = None
    try:
        request = next(requests)
        for number in range(1, limit + 1):
            raw, fetch_seconds = await fetcher.fetch(window, request, part, number)
            started = time.monotonic()
            raw, records = await parse_page(source, raw, fetcher.sandbox)
            seconds = (fetch_seconds, time.monotonic() - started)
            pages.append(_page(part, raw, records, seconds))
            request = requests.send(raw)
        pages[-1] = replace(pages[-1], more=True)
    except StopIteration:
        pass
    except Failure as failure:
        pages.append(TrialPage(part.key, len(pages) + 1, raw, failure=failure))
    return pages


def _page(
    part: Partition, raw: RawPage, records: Sequence[Any], seconds: tuple[float, float]
) -> TrialPage:
    rows = tuple(record for record in records if isinstance(record, Item))
    refused = tuple(record for record in records if isinstance(record, Rejected))
    return TrialPage(part.key, raw.page, raw, rows, refused, seconds)
