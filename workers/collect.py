"""The collector: fetches one source of a run page by page, each page stored in one transaction."""

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from app.context import WorkerContext
from app.core import log
from app.core.errors import ApiError, BudgetExceeded, Failure, Incomplete, Schema
from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Record, Rejected
from app.core.tasks import gather_fail_fast
from app.fetch.large_pages import page_hold
from app.fetch.retry import MAX_WAIT
from app.sources import coverage
from app.sources.base import ListingEnd, fetcher_name
from app.store.db import INVALID_VALUES
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.progress import SourceProgress
from workers import parse
from workers.budget import CollectionBudget
from workers.collected import PageResult
from workers.pages import FetchedPage
from workers.source_group import PlannedSource
from workers.source_writer import SourceWriter

RETRY_DELAYS = (1.0, 3.0)  # seconds before a partition is retried, if its source allows it
PageGenerator = Generator[SourceRequest, RawPage, ListingEnd | Incomplete]

_log = log.logger(__name__)


class Collector:
    """Collects one source: its partitions concurrently, as far as its limits allow."""

    def __init__(
        self,
        context: WorkerContext,
        planned: PlannedSource,
        claimed: ClaimedRun,
        row: SourceProgress,
        budget: CollectionBudget | None = None,
    ) -> None:
        self._context, self._claimed = context, claimed
        self._group, self._source = planned.group, planned.source
        self._writer = writer = SourceWriter(context, planned, claimed, row, budget)
        self._pages = writer.pages
        self._stopped_by: Failure | None = None  # no further partition is begun
        self.backoff: tuple[datetime, Failure] | None = None
        """Until when the site must not be fetched, if that stopped the source, and the failure."""

    @property
    def row(self) -> SourceProgress:
        """The source's row as last written."""
        return self._writer.row

    async def run(self) -> SourceProgress:
        """Collect every partition that is not done yet; returns the source's final row.

        A failing partition does not stop the others. Raises LeaseLost if the lease was lost.
        """
        with structlog.contextvars.bound_contextvars(source=self._source.name):
            failed: Failure | None = None
            parts: Sequence[Partition] = ()
            try:
                parts = await self._list_partitions()
            except Failure as failure:
                failed = failure
                self._record_failure("catalogue", failure)
            await self._writer.begin(len(parts))
            slots = asyncio.Semaphore(self._source.limits.concurrency)
            pending = [part for part in parts if part.key not in self.row.done]
            await gather_fail_fast(self._collect_partition(part, slots) for part in pending)
            return await self._writer.finish(failed)

    async def _list_partitions(self) -> Sequence[Partition]:
        generator = self._source.partitions()
        before = self._source.limits
        request, parts = parse.advance(generator, None)
        while request is not None:
            answer = await self._fetch(request, None, 1)
            if isinstance(answer, Failure):
                request, parts = parse.advance(generator, answer)
                continue
            await self._pages.store_raw(answer)
            request, parts = parse.advance(generator, answer.raw)
            if not all(part.key.isprintable() for part in parts or ()):
                raise Schema("a partition of the source has no printable name", url=answer.raw.url)
        if self._source.limits is not before:
            self._context.fetchers[fetcher_name(self._source)].set_limits(self._source.limits)
        return parts or ()

    async def _fetch(
        self, request: SourceRequest, part: Partition | None, number: int
    ) -> FetchedPage | Failure:
        if request.wait > 0:
            self._writer.usage.tally.throttled_ms += round(request.wait * 1000)
            await asyncio.sleep(request.wait)
        try:
            return await self._pages.fetch(request, part, number)
        except Failure as failure:
            return failure  # thrown into the source first: it may request something else

    async def _collect_partition(self, part: Partition, slots: asyncio.Semaphore) -> None:
        async with slots:
            # The site requires a long pause, or a limit of the run is used up.
            if self._stopped_by is not None:
                self._writer.record_skipped(part, self._stopped_by)
                return
            for pause in (*RETRY_DELAYS, None):
                try:
                    await self._collect_pages(part)
                    return
                except Failure as failure:
                    # The fetcher has done its own retries; this one is asked for by the source.
                    retryable = isinstance(failure, ApiError) and failure.retry
                    if pause is None or not retryable or self._pages_stored(part):
                        self._record_failure(part.key, failure)
                        return
                    self._writer.usage.tally.retries += 1
                    _log.info("partition.again", partition=part.key, error=str(failure), wait=pause)
                    await asyncio.sleep(pause)

    def _record_failure(self, what: str, failure: Failure) -> None:
        self._writer.record_failure(what, failure)
        self._note_limits(failure)

    def _note_limits(self, failure: Failure) -> None:
        """Begin no further partition if a limit is used up or the site requires a long pause."""
        if isinstance(failure, BudgetExceeded):
            self._stopped_by = failure
        if failure.retry_in is not None and failure.retry_in > MAX_WAIT:
            until = self._context.clock() + timedelta(seconds=failure.retry_in)
            self.backoff = self.backoff or (until, failure)
            self._stopped_by = self._stopped_by or failure

    def _pages_stored(self, part: Partition) -> int:
        return self._writer.partitions[part.key].counts.pages

    async def _collect_pages(self, part: Partition) -> None:
        """Fetch, read and store the partition's pages. Raises Failure if it is not complete."""
        self._writer.begin_partition(part)
        generator = self._source.pages(part)
        request, returned = parse.advance(generator, None)
        while request is not None:
            with page_hold(self._context.large_pages):
                request, returned = await self._collect_page(part, generator, request)
        end = returned or Incomplete("the source did not say how its pages end")
        shortfall = self._writer.partitions[part.key].shortfall(end)
        if shortfall is not None:
            raise shortfall
        if isinstance(end, ListingEnd) and end.gap is not None:
            self._note_limits(end.gap)
        if self._pages_stored(part) and part.key not in self.row.done:
            # The source learnt of the end from a failure after the last page.
            await self._writer.commit(part, None, end)

    async def _collect_page(
        self, part: Partition, generator: PageGenerator, request: SourceRequest
    ) -> tuple[SourceRequest | None, ListingEnd | Incomplete | None]:
        """Fetch, read and store what the source requests; returns its next request, or its end."""
        if request.check_page:
            return parse.advance(generator, await self._read_again(request, part))
        number = self._pages_stored(part) + 1
        page = await self._fetch(request, part, number)
        if isinstance(page, Failure):
            return parse.advance(generator, page)
        try:
            raw = await parse.read_in_sandbox(self._context.sandbox, self._source, page.raw)
            page = replace(page, raw=raw)
            following, returned = parse.advance(generator, raw)
            records = [] if page.known else await parse.records_of(self._source, raw)
        except Failure:
            await self._pages.store_raw(page)  # kept so that a fixed parser can read it
            raise
        end = returned if following is None else None
        await self._store_page(part, await self._page_result(page, records, end))
        return following, returned

    async def _read_again(self, request: SourceRequest, part: Partition) -> RawPage | Failure:
        """Fetch and read a page that is only compared with what it was."""
        page = await self._fetch(request, part, request.check_page)
        if isinstance(page, Failure):
            return page
        try:
            return await parse.read_in_sandbox(self._context.sandbox, self._source, page.raw)
        except Failure as failure:
            return failure

    async def _page_result(
        self, page: FetchedPage, records: Sequence[Record], end: ListingEnd | Incomplete | None
    ) -> PageResult:
        part = "" if page.raw.partition is None else page.raw.partition.key
        if page.known is not None:
            self._writer.places.note(page.known.keys, part, page.raw.page)
            return PageResult(page, page.known, end=end)
        records = await parse.off_loop(
            len(page.raw.body), self._writer.places.checked, records, part, page.raw.page
        )
        accepted = [record for record in records if not isinstance(record, Rejected)]
        rejected = [record for record in records if isinstance(record, Rejected)]
        keys = frozenset(self._group.record_key(record) for record in accepted)
        # A record that was stored with a part of it rejected has one key and counts once.
        names = (r.record_id or f"#{page.raw.page}:{n}" for n, r in enumerate(rejected))
        expected = self._writer.expectations
        timestamps = (expected.timestamp_field, expected.future_after(page.raw.fetched_at))
        measured = await parse.off_loop(len(page.raw.body), coverage.measure, accepted, *timestamps)
        content = page.stored_as(keys, frozenset(names), len(rejected))
        content = replace(content, coverage=measured)
        packed = await self._pages.compressed(page)
        return PageResult(page, content, accepted, rejected, packed, end)

    async def _store_page(self, part: Partition, result: PageResult) -> None:
        try:
            await self._writer.commit(part, result, result.end)
        except INVALID_VALUES as error:
            message, raw = f"Postgres rejected the content of the page: {error}", result.page.raw
            raise Schema.of(raw, message) from error
