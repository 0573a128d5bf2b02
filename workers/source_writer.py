"""The writer of a run's source: each page, its listing and the source's row in one transaction."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.context import WorkerContext
from app.core import log
from app.core.enums import FailureKind, RunStatus, StoreMode
from app.core.errors import Failure, Incomplete
from app.core.messages import Partition
from app.core.records import Item
from app.sources.base import ListingEnd, fetcher_name
from app.sources.recipes.collisions import KeyPlaces
from app.store import tenancy
from app.store.content import pages
from app.store.db import Connection, outwait_locks
from app.store.orgs import selections
from app.store.runs import progress
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.progress import Counts, SourceProgress
from workers import expectations, failures
from workers.budget import CollectionBudget, MonthlyBudget
from workers.collected import PageResult, Progress, Usage
from workers.pages import SourcePages
from workers.source_group import CompletedPartition, PlannedSource

_log = log.logger(__name__)


class SourceWriter:
    """Writes what one attempt collects of a source, and its row.

    `partitions`: the partitions begun in this attempt, by key. `errors`: the failures by partition,
    as they are recorded. `places`: where each key was listed. `row`: the source's row as last
    written.
    """

    def __init__(
        self,
        context: WorkerContext,
        planned: PlannedSource,
        claimed: ClaimedRun,
        row: SourceProgress,
        budget: CollectionBudget | None = None,
    ) -> None:
        self._context, self._claimed, self._budget = context, claimed, budget
        self._group, self._source = planned.group, planned.source
        self.expectations = planned.group.expectations(planned.source)
        self._commit_lock = asyncio.Lock()  # a source's pages are committed one at a time
        self.row, self.usage = row, Usage(row)
        self.partitions: dict[str, Progress] = {}
        # A partition may be done and have an error: a gap, which is not found again.
        self.errors = {key: error for key, error in row.errors.items() if key in row.done}
        self.places = KeyPlaces()
        self.pages = SourcePages(
            context,
            claimed,
            planned.source.name,
            self.usage.tally,
            budget,
            fetcher_name(planned.source),
            MonthlyBudget.of(planned.source, context.config),
        )
        if budget is not None:
            budget.tallies.append(self.usage.tally)

    async def begin(self, partitions: int) -> None:
        """Take note of the number of partitions, and of the keys that finished ones listed."""
        self.row = replace(self.row, partitions=partitions)
        if self.row.done:
            kept = await progress.places(self._context.pool, self._claimed, self._source.name)
            for partition, packed in kept.items():
                self.places.restore(partition, packed)

    def begin_partition(self, part: Partition) -> None:
        """Begin a partition at its first page, again if it failed before."""
        self.partitions[part.key] = Progress(part)
        self.places.forget(part.key)

    def record_failure(self, what: str, failure: Failure) -> None:
        """Record why a partition, or the catalogue of partitions, failed."""
        self.errors[what] = failures.as_recorded(failure, self._context.hide)
        _log.warning("partition.failed", partition=what, **self.errors[what])

    def record_skipped(self, part: Partition, stopped_by: Failure) -> None:
        """Record why a partition was not begun."""
        recorded = failures.as_recorded(stopped_by, self._context.hide)
        self.errors[part.key] = recorded | {"attempts": 0}

    async def commit(
        self, part: Partition, page: PageResult | None, end: ListingEnd | Incomplete | None
    ) -> None:
        """Store a page, or nothing more, and the source's new row, in one transaction.

        `end`: how the partition ended, once it is known.
        """
        async with self._commit_lock:
            await outwait_locks(lambda: self._commit_once(self.partitions[part.key], page, end))

    async def _commit_once(
        self, collected: Progress, page: PageResult | None, end: ListingEnd | Incomplete | None
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
                self.usage.added_to(self.row),
                errors=dict(self.errors),
                counts=self.row.counts.plus(counts),
                unfinished_counts=redo,
            )
            if isinstance(end, ListingEnd) and collected.shortfall(end) is None:
                row = await self._complete(connection, collected, end, row)
            added = self._totals_delta(row)
            await progress.write(connection, self._claimed, row, added)
        self.row = row
        self.partitions[collected.partition.key] = collected

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
            await self.pages.store_raw_on(connection, page, result.packed)
        now, run_id = page.raw.fetched_at, self._claimed.run_id
        written = await self._group.write(connection, result.accepted, now, run_id)
        if self._budget is not None and self._claimed.org_id and written.inserted + written.changed:
            self._budget.check_kept(*await selections.usage(connection, self._claimed.org_id))
        if result.rejected:
            where = (self._source.name, part.key, page.raw.page)
            await progress.save_rejected(connection, self._claimed, where, result.rejected)
        if not any(
            isinstance(one, Item) and one.mode is StoreMode.APPEND for one in result.accepted
        ):
            await self.pages.remember(page, replace(content, prices=written.prices), connection)
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
        self, connection: Connection, collected: Progress, end: ListingEnd, row: SourceProgress
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
        packed = self.places.packed(collected.partition.key) if row.partitions > 1 else b""
        if packed:
            where = (self._source.name, collected.partition.key)
            await progress.save_places(connection, self._claimed, where, packed)
        if end.gap is not None:
            self.record_failure(collected.partition.key, end.gap)
        return replace(
            row,
            errors=dict(self.errors),
            done=(*row.done, collected.partition.key),
            done_counts=row.done_counts.plus(collected.counts),
            coverage=row.coverage.merge(collected.coverage),
        )

    def _totals_delta(self, row: SourceProgress) -> dict[str, int]:
        """The change of the run's totals when this row replaces the previous one."""
        before = self._group.row_stats(self.row)
        return {name: count - before[name] for name, count in self._group.row_stats(row).items()}

    async def finish(self, failed: Failure | None) -> SourceProgress:
        """Write the source's final row: status, error, coverage and broken expectations."""
        row = replace(self.usage.added_to(self.row), errors=dict(self.errors))
        if failed is None and self._group.never_empty and not row.counts.records and not row.errors:
            failed = Incomplete("the site listed no records")
        # Where a source may have no records, a completed partition is a success, and so are the
        # records of one whose end was not seen.
        incomplete = [
            one
            for key, one in self.partitions.items()
            if one.keys and self.errors.get(key, {}).get("kind") == FailureKind.INCOMPLETE
        ]
        any_success = bool(
            row.counts.records if self._group.never_empty else row.done or incomplete
        )
        status = RunStatus.SUCCESS
        if failed is not None or (row.errors and not any_success):
            status = RunStatus.FAILURE
        elif row.errors:
            status = RunStatus.PARTIAL_FAILURE
        kind, message = failures.summary(row, failed, self._context.hide)
        partial = [one for key, one in self.partitions.items() if key in self.errors]
        read = row.coverage
        for one in partial:
            read = read if one.partition.key in row.done else read.merge(one.coverage)
        row = replace(row, status=status, error_kind=kind, error_message=message, coverage=read)
        row = await expectations.check_row(self._context, self._claimed, self.expectations, row)
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
        return row

    async def _write_final(self, row: SourceProgress, partial: Sequence[Progress]) -> None:
        async with tenancy.transaction(self._context.pool, self._claimed.org_id) as connection:
            await self._finish_listings(connection, row, partial)
            if row.partitions > 1 or self._claimed.attempt > 1:  # else nothing was kept
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
