"""The collector: fetches one source of a run page by page, each page stored in one transaction."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from app.context import WorkerContext
from app.core import log
from app.core.enums import FailureKind, RunStatus
from app.core.errors import ApiError, BudgetExceeded, Failure, Incomplete, Schema
from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Record, Rejected
from app.core.tasks import gather_fail_fast
from app.fetch.client import RequestCounts
from app.fetch.large_pages import page_hold
from app.fetch.retry import MAX_WAIT
from app.sources import coverage
from app.sources.base import ListingEnd, fetcher_name
from app.sources.coverage import Coverage
from app.sources.recipes.collisions import KeyPlaces
from app.store import tenancy
from app.store.content import pages
from app.store.content.listings import Listing
from app.store.content.pages import StoredPage
from app.store.db import INVALID_VALUES, Connection, outwait_locks
from app.store.orgs import selections
from app.store.runs import progress
from app.store.runs.progress import Counts, SourceProgress
from app.store.runs.run_rows import ClaimedRun
from workers import expectations, parse
from workers.budget import CollectionBudget, MonthlyBudget
from workers.pages import FetchedPage, SourcePages
from workers.source_group import CompletedPartition, PlannedSource

RETRY_DELAYS = (1.0, 3.0)  # seconds before a partition is retried, if its source allows it
PageGenerator = Generator[SourceRequest, RawPage, ListingEnd | Incomplete]
UNNAMED_RECORD = re.compile(r"#\d+:\d+")  # the name of a rejected record without a key
_NEVER = datetime.min.replace(tzinfo=UTC)
_LOCAL_FAILURES = (FailureKind.OVER_LIMIT.value, FailureKind.LOCAL_NETWORK.value)

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class PageResult:
    """A page and its content. `end`: how the source ended the partition, if this is its last page.

    An unchanged page has no records to store.
    """

    page: FetchedPage
    content: StoredPage
    accepted: Sequence[Record] = ()
    rejected: Sequence[Rejected] = ()
    packed: bytes | None = None
    end: ListingEnd | Incomplete | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What this attempt has stored of one partition.

    `started_at`, `read_at`: when its first and its last page were fetched. `unnamed`: some rejected
    records have no key.
    """

    partition: Partition
    counts: Counts = field(default_factory=Counts)
    keys: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    unnamed: bool = False
    started_at: datetime | None = None
    read_at: datetime | None = None
    coverage: Coverage = field(default_factory=Coverage)

    def after(self, result: PageResult, counts: Counts) -> "Progress":
        """The progress once this page is stored, which counts as `counts`."""
        content, fetched_at = result.content, result.page.raw.fetched_at
        return Progress(
            self.partition,
            self.counts.plus(counts),
            self.keys | content.keys,
            self.refused | content.refused,
            self.unnamed or any(UNNAMED_RECORD.fullmatch(name) for name in content.refused),
            self.started_at or fetched_at,
            fetched_at,
            self.coverage.merge(content.coverage),
        )

    def shortfall(self, end: ListingEnd | Incomplete) -> Incomplete | None:
        """Why the partition was not listed completely, or None if it was."""
        if isinstance(end, Incomplete):
            return end
        return end.shortfall(len(self.keys), len(self.keys | self.refused))

    def listing(self, source: str) -> Listing:
        """What the pages listed."""
        present, at = self.keys | self.refused, self.read_at or _NEVER
        return Listing(source, self.partition.key, self.keys, present, at)


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests and time that a source has used: by earlier attempts, and since by this one."""

    earlier: SourceProgress
    tally: RequestCounts = field(default_factory=RequestCounts)
    started: float = field(default_factory=time.monotonic)

    def added_to(self, row: SourceProgress) -> SourceProgress:
        """The row with what has been used until now."""
        earlier, tally = self.earlier, self.tally
        return replace(
            row,
            requests=earlier.requests + tally.requests,
            retries=earlier.retries + tally.retries,
            bytes=earlier.bytes + tally.bytes,
            throttled_ms=earlier.throttled_ms + tally.throttled_ms,
            classes=dict(Counter(earlier.classes) + tally.classes),
            duration_seconds=earlier.duration_seconds + time.monotonic() - self.started,
        )


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
        self._context = context
        self._claimed = claimed
        self._group, self._source = planned.group, planned.source
        self._expectations = planned.group.expectations(planned.source)
        self._usage = Usage(row)
        name = fetcher_name(planned.source)
        self._pages = SourcePages(
            context,
            claimed,
            planned.source.name,
            self._usage.tally,
            budget,
            name,
            MonthlyBudget.of(planned.source, context.config),
        )
        self._budget = budget
        if budget is not None:
            budget.tallies.append(self._usage.tally)
        self._partitions: dict[str, Progress] = {}  # those begun in this attempt, by key
        # A partition may be done and have an error: a gap, which is not found again.
        self._errors = {key: error for key, error in row.errors.items() if key in row.done}
        self._places = KeyPlaces()
        self._stopped_by: Failure | None = None  # no further partition is begun
        self._commit_lock = asyncio.Lock()  # a source's pages are committed one at a time
        self.row = row
        """The source's row as last written."""
        self.backoff: tuple[datetime, Failure] | None = None
        """Until when the site must not be fetched, if that stopped the source, and the failure."""

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
            self.row = replace(self.row, partitions=len(parts))
            if self.row.done:
                name = self._source.name
                kept = await progress.places(self._context.pool, self._claimed, name)
                for partition, packed in kept.items():
                    self._places.restore(partition, packed)
            slots = asyncio.Semaphore(self._source.limits.concurrency)
            pending = [part for part in parts if part.key not in self.row.done]
            await gather_fail_fast(self._collect_partition(part, slots) for part in pending)
            await self._finish(failed)
            return self.row

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
            self._usage.tally.throttled_ms += round(request.wait * 1000)
            await asyncio.sleep(request.wait)
        try:
            return await self._pages.fetch(request, part, number)
        except Failure as failure:
            return failure  # thrown into the source first: it may request something else

    async def _collect_partition(self, part: Partition, slots: asyncio.Semaphore) -> None:
        async with slots:
            # The site requires a long pause, or a limit of the run is used up.
            if self._stopped_by is not None:
                self._errors[part.key] = _failure_details(self._stopped_by) | {"attempts": 0}
                return
            for pause in (*RETRY_DELAYS, None):
                try:
                    await self._collect_pages(part)
                    return
                except Failure as failure:
                    # The fetcher has done its own retries; this one is asked for by the source.
                    retryable = isinstance(failure, ApiError) and failure.retry
                    if pause is None or not retryable or self._partitions[part.key].counts.pages:
                        self._record_failure(part.key, failure)
                        return
                    self._usage.tally.retries += 1
                    _log.info("partition.again", partition=part.key, error=str(failure), wait=pause)
                    await asyncio.sleep(pause)

    def _record_failure(self, what: str, failure: Failure) -> None:
        self._errors[what] = _failure_details(failure)
        _log.warning("partition.failed", partition=what, **_failure_details(failure))
        if isinstance(failure, BudgetExceeded):
            self._stopped_by = failure
        if failure.retry_in is not None and failure.retry_in > MAX_WAIT:
            until = self._context.clock() + timedelta(seconds=failure.retry_in)
            self.backoff = self.backoff or (until, failure)
            self._stopped_by = self._stopped_by or failure

    async def _collect_pages(self, part: Partition) -> None:
        """Fetch, read and store the partition's pages. Raises Failure if it is not complete."""
        self._partitions[part.key] = Progress(part)
        self._places.forget(part.key)
        generator = self._source.pages(part)
        request, returned = parse.advance(generator, None)
        while request is not None:
            with page_hold(self._context.large_pages):
                request, returned = await self._collect_page(part, generator, request)
        collected = self._partitions[part.key]
        end = returned or Incomplete("the source did not say how its pages end")
        shortfall = collected.shortfall(end)
        if shortfall is not None:
            raise shortfall
        if collected.counts.pages and part.key not in self.row.done:
            # The source learnt of the end from a failure after the last page.
            await self._commit(collected, None, end)

    async def _collect_page(
        self, part: Partition, generator: PageGenerator, request: SourceRequest
    ) -> tuple[SourceRequest | None, ListingEnd | Incomplete | None]:
        """Fetch, read and store what the source requests; returns its next request, or its end."""
        if request.check_page:
            return parse.advance(generator, await self._read_again(request, part))
        number = self._partitions[part.key].counts.pages + 1
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
        self,
        page: FetchedPage,
        records: Sequence[Record],
        end: ListingEnd | Incomplete | None,
    ) -> PageResult:
        part = "" if page.raw.partition is None else page.raw.partition.key
        if page.known is not None:
            self._places.note(page.known.keys, part, page.raw.page)
            return PageResult(page, page.known, end=end)
        records = await parse.off_loop(
            len(page.raw.body), self._places.checked, records, part, page.raw.page
        )
        accepted = [record for record in records if not isinstance(record, Rejected)]
        rejected = [record for record in records if isinstance(record, Rejected)]
        keys = frozenset(self._group.record_key(record) for record in accepted)
        # A record that was stored with a part of it rejected has one key and counts once.
        names = (r.record_id or f"#{page.raw.page}:{n}" for n, r in enumerate(rejected))
        measured = await parse.off_loop(
            len(page.raw.body), coverage.measure, accepted, self._expectations.timestamp_field
        )
        content = page.stored_as(keys, frozenset(names), len(rejected))
        content = replace(content, coverage=measured)
        packed = await self._pages.compressed(page)
        return PageResult(page, content, accepted, rejected, packed, end)

    async def _store_page(self, part: Partition, result: PageResult) -> None:
        try:
            await self._commit(self._partitions[part.key], result, result.end)
        except INVALID_VALUES as error:
            message, raw = f"Postgres rejected the content of the page: {error}", result.page.raw
            raise Schema(message, status=raw.status, url=raw.url) from error

    async def _commit(
        self,
        collected: Progress,
        page: PageResult | None,
        end: ListingEnd | Incomplete | None,
    ) -> None:
        """Store a page, or nothing more, and the source's new row, in one transaction."""
        async with self._commit_lock:
            await outwait_locks(lambda: self._commit_once(collected, page, end))

    async def _commit_once(
        self,
        collected: Progress,
        page: PageResult | None,
        end: ListingEnd | Incomplete | None,
    ) -> None:
        async with tenancy.transaction(self._context.pool, self._claimed.org_id) as connection:
            counts, redo = Counts(), self.row.unfinished_counts
            if page is not None:
                stored = await self._store(connection, collected.partition, page)
                counts = replace(stored, records=len(page.content.keys - collected.keys))
                correction = _redo_correction(counts, redo)
                counts, redo = counts.plus(correction), redo.minus(correction)
                collected = collected.after(page, counts)
            row = replace(
                self._usage.added_to(self.row),
                errors=dict(self._errors),
                counts=self.row.counts.plus(counts),
                unfinished_counts=redo,
            )
            if isinstance(end, ListingEnd) and collected.shortfall(end) is None:
                row = await self._complete(connection, collected, end, row)
            added = self._totals_delta(row)
            await progress.write(connection, self._claimed, row, added)
        self.row = row
        self._partitions[collected.partition.key] = collected

    async def _store(self, connection: Connection, part: Partition, result: PageResult) -> Counts:
        page, content = result.page, result.content
        if page.known is None or result.end is not None:
            await pages.lock_page(connection, page.fingerprint, page.order)
        if page.known is not None:
            await self._group.on_unchanged_page(connection, content.keys, page.raw.fetched_at)
            same = content.prices or len(content.keys)
            seen = Counts(pages=1, pages_unchanged=1, prices=content.prices, unchanged=same)
            return replace(seen, rejected=content.rejected)
        if result.packed is not None:
            await self._pages.store_raw_on(connection, page, result.packed)
        now, run_id = page.raw.fetched_at, self._claimed.run_id
        written = await self._group.write(connection, result.accepted, now, run_id)
        if self._budget is not None and self._claimed.org_id and written.inserted + written.changed:
            self._budget.check_kept(*await selections.usage(connection, self._claimed.org_id))
        if result.rejected:
            where = (self._source.name, part.key, page.raw.page)
            await progress.save_rejected(connection, self._claimed, where, result.rejected)
        await self._pages.remember(page, replace(content, prices=written.prices), connection)
        return Counts(
            pages=1,
            prices=written.prices,
            points=written.points,
            inserted=written.inserted,
            changed=written.changed,
            unchanged=written.unchanged,
            rejected=len(result.rejected),
        )

    async def _complete(
        self,
        connection: Connection,
        collected: Progress,
        end: ListingEnd,
        row: SourceProgress,
    ) -> SourceProgress:
        """Record the listing of a partition whose end was seen; returns the row with it."""
        tracker, run_id = self._group.listing_tracker, self._claimed.run_id
        # An empty listing is not trusted: the source's whole listing, or the next one, decides.
        if tracker is not None and collected.keys:
            listing = collected.listing(self._source.name)
            # A rejected record without a key may be any record: then none counts as missing.
            partly = collected.unnamed or not end.whole
            record = tracker.record_partial_listing if partly else tracker.record_listing
            await record(connection, listing, run_id)
        if collected.started_at is not None:
            name, key = self._source.name, collected.partition.key
            done = CompletedPartition(name, key, collected.started_at, run_id)
            await self._group.on_partition_done(connection, done)
        packed = self._places.packed(collected.partition.key) if row.partitions > 1 else b""
        if packed:
            where = (self._source.name, collected.partition.key)
            await progress.save_places(connection, self._claimed, where, packed)
        if end.gap is not None:
            self._record_failure(collected.partition.key, end.gap)
        return replace(
            row,
            errors=dict(self._errors),
            done=(*row.done, collected.partition.key),
            done_counts=row.done_counts.plus(collected.counts),
            coverage=row.coverage.merge(collected.coverage),
        )

    def _totals_delta(self, row: SourceProgress) -> dict[str, int]:
        """The change of the run's totals when this row replaces the previous one."""
        before = self._group.row_stats(self.row)
        return {name: count - before[name] for name, count in self._group.row_stats(row).items()}

    async def _finish(self, failed: Failure | None) -> None:
        """Write the source's final row: status, error, coverage and broken expectations."""
        row = replace(self._usage.added_to(self.row), errors=dict(self._errors))
        if failed is None and self._group.never_empty and not row.counts.records and not row.errors:
            failed = Incomplete("the site listed no records")
        # Where a source may have no records, a completed partition is a success, and so are the
        # records of one whose end was not seen.
        incomplete = [
            one
            for key, one in self._partitions.items()
            if one.keys and self._errors.get(key, {}).get("kind") == FailureKind.INCOMPLETE
        ]
        any_success = bool(
            row.counts.records if self._group.never_empty else row.done or incomplete
        )
        status = RunStatus.SUCCESS
        if failed is not None or (row.errors and not any_success):
            status = RunStatus.FAILURE
        elif row.errors:
            status = RunStatus.PARTIAL_FAILURE
        kind, message = _failure_summary(row, failed)
        partial = [one for key, one in self._partitions.items() if key in self._errors]
        read = row.coverage
        for one in partial:
            read = read if one.partition.key in row.done else read.merge(one.coverage)
        row = replace(row, status=status, error_kind=kind, error_message=message, coverage=read)
        row = await expectations.check_row(self._context, self._claimed, self._expectations, row)
        await outwait_locks(lambda: self._write_final(row, partial))
        self.row = row
        _log.info(
            "source.finished",
            status=row.status.value,
            error=row.error_message,
            requests=row.requests,
            retries=row.retries,
            throttled_ms=row.throttled_ms,
            **{name: n for name, n in self._group.row_stats(row).items() if name != "requests"},
        )

    async def _write_final(self, row: SourceProgress, partial: Sequence[Progress]) -> None:
        async with tenancy.transaction(self._context.pool, self._claimed.org_id) as connection:
            await self._finish_listings(connection, row, partial)
            await progress.delete_places(connection, self._claimed, row.source)
            await progress.write(connection, self._claimed, row, {})

    async def _finish_listings(
        self, connection: Connection, row: SourceProgress, partial: Sequence[Progress]
    ) -> None:
        tracker, run_id = self._group.listing_tracker, self._claimed.run_id
        if tracker is None:
            return
        for one in partial:
            await tracker.record_partial_listing(connection, one.listing(row.source), run_id)
        if row.breach is not None:
            await tracker.revert_absences(connection, row.source, run_id)
        if row.status is RunStatus.SUCCESS and len(row.done) == row.partitions:
            now = self._context.clock()
            await tracker.record_partitions(connection, row.source, row.done, now, run_id)


def run_totals(parts: Iterable[PlannedSource], rows: Iterable[SourceProgress]) -> dict[str, int]:
    """A run's totals over its sources, by their names in `stats`."""
    groups = {part.source.name: part.group for part in parts}
    total = Counter[str]()
    for group in groups.values():
        total.update(group.row_stats(SourceProgress("")))
    for row in rows:  # also sources of an earlier attempt that the plan no longer has
        total.update(groups.get(row.source, next(iter(groups.values()))).row_stats(row))
    return dict(total)


def root_failure_kind(kinds: Sequence[str]) -> str:
    """The kind that explains the others: a local failure if there is one, else the first."""
    return next((kind for kind in _LOCAL_FAILURES if kind in kinds), kinds[0])


def _redo_correction(page: Counts, redo: Counts) -> Counts:
    """Correct the counts of an unchanged page that an earlier attempt of this run stored."""
    inserted = min(page.unchanged, redo.inserted)
    changed = min(page.unchanged - inserted, redo.changed)
    return Counts(
        inserted=inserted,
        changed=changed,
        unchanged=-inserted - changed,
        points=redo.points if page.unchanged else 0,
    )


def _failure_details(failure: Failure) -> dict[str, Any]:
    return {
        "kind": failure.kind.value,
        "error": str(failure)[:500],
        "status": failure.status,
        "url": failure.url,
        "attempts": failure.attempts,
    }


def _failure_summary(row: SourceProgress, failed: Failure | None) -> tuple[str | None, str | None]:
    if failed is not None:
        return failed.kind.value, str(failed)[:500]
    if not row.errors:
        return None, None
    kind = root_failure_kind([error["kind"] for error in row.errors.values()])
    part, first = next((p, e) for p, e in row.errors.items() if e["kind"] == kind)
    return first["kind"], f"{len(row.errors)} of {row.partitions} failed; {part}: {first['error']}"
