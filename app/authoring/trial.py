"""Trial of a recipe: fetch and parse a few pages of a few partitions, as a run would."""

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.authoring.page import PageFetcher
from app.core.errors import Failure, Incomplete
from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Item, Rejected
from app.fetch.authenticated import AnyFetcher
from app.sources.base import ListingEnd
from app.sources.recipes.collisions import KeyPlaces
from app.sources.recipes.sandbox import Sandbox
from app.sources.recipes.source import RecipeSource


@dataclass(frozen=True, slots=True)
class TrialPage:
    """A page that was parsed, or the failure of it. `seconds`: to fetch it, and to parse it.

    `more`: there are further pages. `end`: what showed that this page is the last.
    """

    partition: str
    page: int
    raw: RawPage | None
    rows: tuple[Item, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)
    failure: Failure | None = None
    more: bool = False
    end: str | None = None


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

    They end as in a run: a Failure, which may be that the end was not seen, ends its partition and
    is returned with a page of its own, and a key that another row has taken is rejected.
    """
    fetched = list[TrialPage]()
    places = KeyPlaces()
    for part in _partitions(source)[:parts]:
        trial = _Trial(source, part, fetcher, window, places)
        fetched += await trial.run(pages)
    return fetched


def _partitions(source: RecipeSource) -> Sequence[Partition]:
    try:
        next(source.partitions())
    except StopIteration as stop:
        return stop.value
    return ()


@dataclass(slots=True)
class _Trial:
    """The trial of one partition."""

    source: RecipeSource
    part: Partition
    fetcher: PageFetcher
    window: AnyFetcher
    places: KeyPlaces
    pages: list[TrialPage] = field(default_factory=list[TrialPage])
    last: RawPage | None = None

    async def run(self, limit: int) -> list[TrialPage]:
        """Return at most `limit` pages, and a page for the failure, if there is one."""
        try:
            failure = await self._read(limit)
        except Failure as error:
            failure = error
        if failure is not None:
            number = len(self.pages) + 1
            self.pages.append(TrialPage(self.part.key, number, self.last, failure=failure))
        return self.pages

    async def _read(self, limit: int) -> Failure | None:
        """Fetch and parse pages up to the limit or the end; return why that is not an end."""
        asking = self.source.pages(self.part)
        step = _advance(asking, None)
        while isinstance(step, SourceRequest) and (step.check_page or len(self.pages) < limit):
            if step.check_page:
                step = _advance(asking, await self._read_again(step))
                continue
            number = len(self.pages) + 1
            try:
                raw, fetch_seconds = await self.fetcher.fetch(self.window, step, self.part, number)
            except Failure as failure:
                step = _advance(asking, failure)  # the recipe may name it as the end
                continue
            self.last = raw
            started = time.monotonic()
            raw, records = await parse_page(self.source, raw, self.fetcher.sandbox)
            records = self.places.checked(records, self.part.key, number)
            seconds = (fetch_seconds, time.monotonic() - started)
            self.pages.append(_page(self.part, raw, records, seconds))
            step = _advance(asking, raw)
        if not isinstance(step, SourceRequest):
            return self._ended(step)
        self.pages[-1] = replace(self.pages[-1], more=True)
        return None

    async def _read_again(self, request: SourceRequest) -> RawPage | Failure:
        try:
            raw, _ = await self.fetcher.fetch(self.window, request, self.part, request.check_page)
            return (await parse_page(self.source, raw, self.fetcher.sandbox))[0]
        except Failure as failure:
            return failure

    def _ended(self, end: ListingEnd | Incomplete) -> Failure | None:
        if isinstance(end, Incomplete):
            return end
        parsed = {row.key for page in self.pages for row in page.rows}
        refused = [r.record_id for page in self.pages for r in page.rejected]
        unnamed = refused.count(None)
        shortfall = end.shortfall(len(parsed), len(parsed | {*refused} - {None}) + unnamed)
        if shortfall is None and self.pages:
            self.pages[-1] = replace(self.pages[-1], end=end.reason)
        return shortfall


def _advance(
    asking: Generator[SourceRequest, RawPage, ListingEnd | Incomplete],
    answer: RawPage | Failure | None,
) -> SourceRequest | ListingEnd | Incomplete:
    """Pass an answer to the source; return its next request, or how its pages end."""
    try:
        if isinstance(answer, Failure):
            return asking.throw(answer)
        return next(asking) if answer is None else asking.send(answer)
    except StopIteration as stop:
        return stop.value


def _page(
    part: Partition, raw: RawPage, records: Sequence[Any], seconds: tuple[float, float]
) -> TrialPage:
    rows = tuple(record for record in records if isinstance(record, Item))
    refused = tuple(record for record in records if isinstance(record, Rejected))
    return TrialPage(part.key, raw.page, raw, rows, refused, seconds)
