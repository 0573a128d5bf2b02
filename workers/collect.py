"""The collector: fetches one source of a run page by page, each page stored in one transaction."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog

from app.context import WorkerContext
from app.core import log
from app.core.enums import FailureKind, RunStatus
from app.core.errors import ApiError, BudgetExceeded, Failure, Incomplete, Schema
from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Record, Rejected
from app.core.tasks import gather_fail_fast
from app.fetch.client import RequestCounts
from app.fetch.retry import MAX_WAIT
from app.sources import coverage
from app.sources.base import SandboxedSource, Source, fetcher_name, sandbox_lock_key
from app.sources.coverage import Coverage
from app.store import tenancy
from app.store.content import pages as store
from app.store.content.listings import Listing
from app.store.content.pages import StoredPage
from app.store.db import INVALID_VALUES, Connection
from app.store.runs import progress
from app.store.runs.progress import Counts, SourceProgress
from app.store.runs.run_rows import ClaimedRun
from workers import expectations
from workers.budget import CollectionBudget
from workers.job import CompletedPartition, PlannedSource
from workers.pages import FetchedPage, SourcePages

OFF_LOOP_BYTES = 256 * 1024  # bytes; a larger page is parsed off the event loop

Returned = TypeVar("Returned")
_log = log.logger(__name__)


def run_totals(parts: Iterable[PlannedSource], rows: Iterable[SourceProgress]) -> dict[str, int]:
    """A run's totals over its sources, by their names in `stats`."""
    jobs = {part.source.name: part.job for part in parts}
    total = Counter[str]()
    for job in jobs.values():
        total.update(job.row_stats(SourceProgress("")))
    for row in rows:  # also sources of an earlier attempt that the plan no longer has
        total.update(jobs.get(row.source, next(iter(jobs.values()))).row_stats(row))
    return dict(total)


def root_failure_kind(kinds: Sequence[str]) -> str:
    """The kind that explains the others: a local failure if there is one, else the first."""
    return next((kind for kind in _LOCAL_FAILURES if kind in kinds), kinds[0])


@dataclass(slots=True)
class _PartitionState:
    """Progress through one partition. `started_at`: when its first page was fetched."""

    part: Partition
    counts: Counts = field(default_factory=Counts)
    seen: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    started_at: datetime | None = None
    unnamed: bool = False  # some rejected records have no key
    at: datetime | None = None
    coverage: Coverage = field(default_factory=Coverage)

    def listing(self, source: str, *, counted: bool = False) -> Listing:
        present = self.seen | self.refused
        return Listing(source, self.part.key, self.seen, present, self.at or _NEVER, counted)

    def shortfall(self, reported: int | Incomplete | None) -> Incomplete | None:
        if isinstance(reported, Incomplete):
            return None  # done, though incomplete: fetching again would not help
        present = len(self.seen | self.refused)
        if reported is None or (present >= reported and (self.seen or not reported)):
            return None
        return Incomplete(f"{len(self.seen)} records where the site says there are {reported}")

    def updated(self, result: "_PageResult", counts: Counts) -> "_PartitionState":
        content = result.content
        return _PartitionState(
            self.part,
            self.counts.plus(counts),
            self.seen | content.keys,
            self.refused | content.refused,
            self.started_at,
            self.unnamed or any(UNNAMED_RECORD.fullmatch(name) for name in content.refused),
            result.page.raw.fetched_at,
            self.coverage.merge(content.coverage),
        )


@dataclass(frozen=True, slots=True)
class _PageResult:
    """A page and its content. An unchanged page has no records to store."""

    page: FetchedPage
    content: StoredPage
    accepted: Sequence[Record] = ()
    rejected: Sequence[Rejected] = ()
    packed: bytes | None = None


class Collector:
    """Collects one source: its partitions concurrently, as far as its limits allow."""

    def __init__(
        self,
        context: WorkerContext,
        part: PlannedSource,
        claimed: ClaimedRun,
        row: SourceProgress,
        budget: CollectionBudget | None = None,
    ) -> None:
        self._context = context
        self._job = part.job
        self._claimed = claimed
        self._source = source = part.source
        self._expectations = part.job.expectations(source)
        self._row = row
        self._initial_row = row
        self._errors: dict[str, Any] = {}
        self._incomplete: list[_PartitionState] = []
        self._tally = RequestCounts()
        self._pages = SourcePages(
            context, claimed, source.name, self._tally, budget, fetcher_name(source)
        )
        self._over_limit: BudgetExceeded | None = None
        if budget is not None:
            budget.tallies.append(self._tally)
        self._started = time.monotonic()
        self._commit_lock = asyncio.Lock()  # a source's pages are committed one at a time
        self.backoff: tuple[datetime, Failure] | None = None
        """Until when the site must not be fetched, if that stopped the source, and the failure."""

    @property
    def row(self) -> SourceProgress:
        """The source's current row."""
        return self._row

    async def run(self) -> SourceProgress:
        """Collect every partition that is not done yet; returns the source's final row.

        A failing partition does not stop the others. Raises Fenced if the lease was lost.
        """
        with structlog.contextvars.bound_contextvars(source=self._source.name):
            failed: Failure | None = None
            parts: Sequence[Partition] = ()
            try:
                parts = await self._list_partitions()
            except Failure as failure:
                failed = failure
                self._record_failure("catalogue", failure)
            self._row = replace(self._row, partitions=len(parts))
            slots = asyncio.Semaphore(self._source.limits.concurrency)
            pending = [part for part in parts if part.key not in self._row.done]
            await gather_fail_fast(self._collect_partition(part, slots) for part in pending)
            await self._finish(failed)
            return self._row

    async def _list_partitions(self) -> Sequence[Partition]:
        generator = self._source.partitions()
        before = self._source.limits
        request, parts = _advance(generator, None)
        while request is not None:
            answer = await self._fetch(request, None, 1)
            if isinstance(answer, Failure):
                request, parts = _advance(generator, answer)
                continue
            await self._pages.store_raw(answer)
            request, parts = _advance(generator, answer.raw)
            if not all(part.key.isprintable() for part in parts or ()):
                raise Schema("a partition of the source has no printable name", url=answer.raw.url)
        if self._source.limits is not before:
            self._context.fetchers[fetcher_name(self._source)].set_limits(self._source.limits)
        return parts or ()

    async def _fetch(
        self, request: SourceRequest, part: Partition | None, number: int
    ) -> FetchedPage | Failure:
        if request.wait > 0:
            self._tally.throttled_ms += round(request.wait * 1000)
            await asyncio.sleep(request.wait)
        try:
            return await self._pages.fetch(request, part, number)
        except Failure as failure:
            return failure  # thrown into the source first: it may request something else

    async def _collect_partition(self, part: Partition, slots: asyncio.Semaphore) -> None:
        async with slots:
            # The site requires a long pause, or a limit of the run is used up.
            stopped = self._over_limit or (self.backoff and self.backoff[1])
            if stopped:
                self._errors[part.key] = _failure_details(stopped) | {"attempts": 0}
                return
            try:
                await self._collect_with_retries(part)
            except Failure as failure:
                self._record_failure(part.key, failure)

    async def _collect_with_retries(self, part: Partition) -> None:
        for pause in (*RETRY_DELAYS, None):
            state = _PartitionState(part)
            try:
                await self._collect_pages(state)
                return
            except Failure as failure:
                # The fetcher has done its own retries; this one is asked for by the source.
                retryable = (
                    isinstance(failure, ApiError) and failure.retry and not state.counts.pages
                )
                if pause is None or not retryable:
                    self._incomplete.append(state)
                    raise
                self._tally.retries += 1
                _log.info("partition.again", partition=part.key, error=str(failure), wait=pause)
                await asyncio.sleep(pause)

    def _record_failure(self, what: str, failure: Failure) -> None:
        self._errors[what] = _failure_details(failure)
        _log.warning("partition.failed", partition=what, **_failure_details(failure))
        if isinstance(failure, BudgetExceeded):
            self._over_limit = failure
        if failure.retry_in is not None and failure.retry_in > MAX_WAIT:
            until = self._context.clock() + timedelta(seconds=failure.retry_in)
            self.backoff = self.backoff or (until, failure)

    async def _collect_pages(self, state: _PartitionState) -> None:
        generator = self._source.pages(state.part)
        request, reported = _advance(generator, None)
        number = 1
        while request is not None:
            page = await self._fetch(request, state.part, number)
            if isinstance(page, Failure):
                request, reported = _advance(generator, page)
                continue
            state.started_at = state.started_at or page.raw.fetched_at
            try:
                page = await self._read_in_sandbox(page)
                request, reported = _advance(generator, page.raw)
                records = [] if page.known else await _read(self._source, page.raw)
            except Failure:
                await self._pages.store_raw(page)  # kept so that a fixed parser can read it
                raise
            await self._store_page(
                state, page, records, reported if request is None else MORE_PAGES
            )
            number += 1
        shortfall = reported if isinstance(reported, Incomplete) else state.shortfall(reported)
        if shortfall is not None:
            raise shortfall
        if state.counts.pages and state.part.key not in self._row.done:
            await self._close_partition(state, reported)

    async def _store_page(
        self,
        state: _PartitionState,
        page: FetchedPage,
        records: Sequence[Record],
        reported: int | Incomplete | None,
    ) -> None:
        try:
            await self._commit(state, await self._page_result(page, records), reported)
        except INVALID_VALUES as error:
            message = f"Postgres rejected the content of the page: {error}"
            raise Schema(message, status=page.raw.status, url=page.raw.url) from error

    async def _close_partition(
        self, state: _PartitionState, reported: int | Incomplete | None
    ) -> None:
        """Complete a partition whose end the source learnt from a failure after its last page."""
        async with self._commit_lock:
            org_id = self._claimed.org_id
            async with tenancy.transaction(self._context.pool, org_id) as connection:
                await self._record_listing(connection, state, reported)
                row = self._row_after(Counts(), state, reported)
                await self._complete_partition(connection, state, row)
                await progress.write(connection, self._claimed, row, self._totals_delta(row))
            self._row = row

    async def _read_in_sandbox(self, page: FetchedPage) -> FetchedPage:
        if not isinstance(self._source, SandboxedSource):
            return page
        request = self._source.sandbox_request(page.raw)
        answer = await self._context.sandbox.read(sandbox_lock_key(self._source), request)
        if len(answer) > OFF_LOOP_BYTES:
            return replace(
                page,
                raw=await asyncio.to_thread(self._source.with_sandbox_result, page.raw, answer),
            )
        return replace(page, raw=self._source.with_sandbox_result(page.raw, answer))

    async def _page_result(self, page: FetchedPage, records: Sequence[Record]) -> _PageResult:
        if page.known is not None:
            return _PageResult(page, page.known)
        accepted = [record for record in records if not isinstance(record, Rejected)]
        rejected = [record for record in records if isinstance(record, Rejected)]
        keys = frozenset(self._job.record_key(record) for record in accepted)
        # A record that was stored with a part of it rejected has one key and counts once.
        names = (r.record_id or f"#{page.raw.page}:{n}" for n, r in enumerate(rejected))
        content = page.stored_as(keys, frozenset(names), len(rejected))
        content = replace(
            content, coverage=await _coverage_of(page, accepted, self._expectations.timestamp_field)
        )
        return _PageResult(page, content, accepted, rejected, await self._pages.compressed(page))

    async def _commit(
        self, state: _PartitionState, result: _PageResult, reported: int | Incomplete | None
    ) -> None:
        async with self._commit_lock:
            org_id = self._claimed.org_id
            async with tenancy.transaction(self._context.pool, org_id) as connection:
                stored = await self._store(connection, state.part, result)
                counts = replace(stored, records=len(result.content.keys - state.seen))
                correction = _redo_correction(counts, self._row.unfinished_counts)
                counts = counts.plus(correction)
                updated = state.updated(result, counts)
                await self._record_listing(connection, updated, reported)
                row = replace(
                    self._row_after(counts, updated, reported),
                    unfinished_counts=self._row.unfinished_counts.minus(correction),
                )
                await self._complete_partition(connection, updated, row)
                await progress.write(connection, self._claimed, row, self._totals_delta(row))
            self._row = row
            state.counts, state.seen, state.refused = updated.counts, updated.seen, updated.refused
            state.unnamed, state.at, state.coverage = updated.unnamed, updated.at, updated.coverage

    async def _record_listing(
        self, connection: Connection, state: _PartitionState, reported: int | Incomplete | None
    ) -> None:
        presence = self._job.listing_tracker
        unfinished = reported is MORE_PAGES or isinstance(reported, Incomplete)
        # An empty listing is not trusted: the source's whole listing, or the next one, decides.
        if presence is None or unfinished or state.shortfall(reported) or not state.seen:
            return
        listing = state.listing(self._source.name, counted=reported is not None)
        # A rejected record without a key may be any record: then none counts as missing.
        record = presence.record_partial_listing if state.unnamed else presence.record_listing
        await record(connection, listing, self._claimed.run_id)

    async def _store(self, connection: Connection, part: Partition, result: _PageResult) -> Counts:
        page, content = result.page, result.content
        if page.known is not None:
            if self._job.on_unchanged_page is not None:
                await self._job.on_unchanged_page(connection, content.keys, page.raw.fetched_at)
            same = content.prices or len(content.keys)
            seen = Counts(pages=1, pages_unchanged=1, prices=content.prices, unchanged=same)
            return replace(seen, rejected=content.rejected)
        await store.lock_page(connection, page.fingerprint)
        if result.packed is not None:
            await self._pages.store_raw_on(connection, page, result.packed)
        now, run_id = page.raw.fetched_at, self._claimed.run_id
        written = await self._job.write(connection, result.accepted, now, run_id)
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

    async def _complete_partition(
        self, connection: Connection, state: _PartitionState, row: SourceProgress
    ) -> None:
        if (
            self._job.on_partition_done is None
            or state.started_at is None
            or state.part.key not in row.done
        ):
            return
        turned = CompletedPartition(
            self._source.name, state.part.key, state.started_at, self._claimed.run_id
        )
        await self._job.on_partition_done(connection, turned)

    def _totals_delta(self, row: SourceProgress) -> dict[str, int]:
        """The change of the run's totals when this row replaces the previous one."""
        before = self._job.row_stats(self._row)
        return {name: count - before[name] for name, count in self._job.row_stats(row).items()}

    def _row_after(
        self, page: Counts, state: _PartitionState, reported: int | Incomplete | None
    ) -> SourceProgress:
        row = replace(self._with_usage(), counts=self._row.counts.plus(page))
        if reported is MORE_PAGES or state.shortfall(reported) is not None:
            return row
        return replace(
            row,
            done=(*row.done, state.part.key),
            done_counts=row.done_counts.plus(state.counts),
            coverage=row.coverage.merge(state.coverage),
        )

    def _with_usage(self) -> SourceProgress:
        initial, tally = self._initial_row, self._tally
        return replace(
            self._row,
            requests=initial.requests + tally.requests,
            retries=initial.retries + tally.retries,
            bytes=initial.bytes + tally.bytes,
            throttled_ms=initial.throttled_ms + tally.throttled_ms,
            classes=dict(Counter(initial.classes) + tally.classes),
            duration_seconds=initial.duration_seconds + time.monotonic() - self._started,
            errors=dict(self._errors),
        )

    async def _finish(self, failed: Failure | None) -> None:
        row = self._with_usage()
        if failed is None and self._job.never_empty and not row.counts.records and not row.errors:
            failed = Incomplete("the site listed no records")
        status = RunStatus.SUCCESS
        if failed is not None or (row.errors and not self._any_success(row)):
            status = RunStatus.FAILURE
        elif row.errors:
            status = RunStatus.PARTIAL_FAILURE
        kind, message = _failure_summary(row, failed)
        self._row = replace(row, status=status, error_kind=kind, error_message=message)
        self._row = await expectations.check_row(
            self._context, self._claimed, self._expectations, self._with_coverage(self._row)
        )
        async with tenancy.transaction(self._context.pool, self._claimed.org_id) as connection:
            await self._finish_listings(connection, self._row)
            await progress.write(connection, self._claimed, self._row, {})
        _log.info(
            "source.finished",
            status=self._row.status.value,
            error=self._row.error_message,
            requests=row.requests,
            retries=row.retries,
            throttled_ms=row.throttled_ms,
            **{name: n for name, n in self._job.row_stats(row).items() if name != "requests"},
        )

    def _with_coverage(self, row: SourceProgress) -> SourceProgress:
        total_coverage = row.coverage
        for state in self._incomplete:
            total_coverage = total_coverage.merge(state.coverage)
        return replace(row, coverage=total_coverage)

    def _any_success(self, row: SourceProgress) -> bool:
        # Where a source may have no records, a completed partition is a success.
        return bool(row.counts.records if self._job.never_empty else row.done)

    async def _finish_listings(self, connection: Connection, row: SourceProgress) -> None:
        presence, run_id = self._job.listing_tracker, self._claimed.run_id
        if presence is None:
            return
        for state in self._incomplete:
            await presence.record_partial_listing(
                connection, state.listing(self._source.name), run_id
            )
        if row.breach is not None:
            await presence.revert_absences(connection, self._source.name, run_id)
        if row.status is RunStatus.SUCCESS and len(row.done) == row.partitions:
            now = self._context.clock()
            await presence.record_partitions(connection, self._source.name, row.done, now, run_id)


_LOCAL_FAILURES = (FailureKind.OVER_LIMIT.value, FailureKind.LOCAL_NETWORK.value)
_NEVER = datetime.min.replace(tzinfo=UTC)
UNNAMED_RECORD = re.compile(r"#\d+:\d+")  # the name of a rejected record without a key
RETRY_DELAYS = (1.0, 3.0)  # seconds before a partition is retried, if its source allows it
MORE_PAGES = -1  # more pages follow, so nothing can be missing yet


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


def _advance(
    generator: Generator[SourceRequest, RawPage, Returned], raw: RawPage | Failure | None
) -> tuple[SourceRequest | None, Returned | None]:
    try:
        if isinstance(raw, Failure):
            return generator.throw(raw), None
        return (next(generator) if raw is None else generator.send(raw)), None
    except StopIteration as stop:
        return None, stop.value
    except Failure:
        raise
    except Exception as error:
        raise _unreadable(error, None if isinstance(raw, Failure) else raw) from error


async def _read(source: Source, raw: RawPage) -> list[Record]:
    if len(raw.body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_parsed, source, raw)
    return _parsed(source, raw)


async def _coverage_of(
    page: FetchedPage, records: Sequence[Record], instant: str | None
) -> Coverage:
    if len(page.raw.body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(coverage.measure, records, instant)
    return coverage.measure(records, instant)


def _parsed(source: Source, raw: RawPage) -> list[Record]:
    try:
        return list(source.parse(raw))
    except Failure:
        raise
    except Exception as error:
        raise _unreadable(error, raw) from error


def _unreadable(error: Exception, raw: RawPage | None) -> Schema:
    # A source must raise only Failure; any other exception means an unexpected page.
    message = f"the page could not be read: {type(error).__name__}: {error}"
    return Schema(message, status=raw and raw.status, url=raw and raw.url)


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
