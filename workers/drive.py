"""One source of one run: asked page by page, each page stored with its counters in one go."""

import asyncio
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from app import log
from app.errors import Failure, Incomplete, Schema
from app.fetch.client import Tally
from app.messages import Partition, Raw, Request
from app.records import Record, Rejected
from app.resources import House
from app.sources.base import Source
from app.store import progress
from app.store.boards import Listing
from app.store.db import Connection
from app.store.progress import Counts, SourceRow
from app.store.runs import Claimed
from app.words import RunStatus
from workers.job import Job
from workers.together import together

LARGE = 256 * 1024  # bytes; a larger page is read off the event loop

Told = TypeVar("Told")
_log = log.logger(__name__)


def totals(job: Job, rows: Iterable[SourceRow]) -> dict[str, int]:
    """A run's totals over its sources, as `stats` name them."""
    total = Counts()
    for row in rows:
        total = total.plus(row.counts)
    return _named(job, total)


def _named(job: Job, counts: Counts) -> dict[str, int]:
    return {job.counted if n == "records" else n: getattr(counts, n) for n in progress.NAMES}


@dataclass(slots=True)
class _Walk:
    """The way through one partition so far."""

    part: Partition
    counts: Counts = field(default_factory=Counts)
    seen: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    nameless: bool = False  # some of the refused did not even say which they are
    at: datetime | None = None

    def listing(self, source: str, *, counted: bool = False) -> Listing:
        present = self.seen | self.refused
        return Listing(source, self.part.key, self.seen, present, self.at or _NEVER, counted)

    def shortfall(self, promised: int | None) -> Incomplete | None:
        have = len(self.seen | self.refused)
        if promised is None or (have >= promised and (self.seen or not promised)):
            return None
        return Incomplete(f"{len(self.seen)} records where the site says there are {promised}")


class Drive:
    """Takes one source through its partitions, side by side as far as its limits go."""

    def __init__(
        self, house: House, job: Job, claimed: Claimed, source: Source, row: SourceRow
    ) -> None:
        self._house = house
        self._job = job
        self._claimed = claimed
        self._source = source
        self._row = row
        self._begun = row
        self._errors: dict[str, Any] = {}
        self._cut_short: list[_Walk] = []
        self._tally = Tally()
        self._started = time.monotonic()
        self._turn = asyncio.Lock()  # a source's pages are committed one after the other

    async def run(self) -> SourceRow:
        """Ask for everything that is not done yet; returns the source's row as it ended.

        One partition failing leaves the others. Raises Fenced if the attempt lost its lease.
        """
        with structlog.contextvars.bound_contextvars(source=self._source.name):
            failed: Failure | None = None
            parts: Sequence[Partition] = ()
            try:
                parts = await self._catalogue()
            except Failure as failure:
                failed = failure
            self._row = replace(self._row, partitions=len(parts))
            gate = asyncio.Semaphore(self._source.limits.concurrency)
            todo = [part for part in parts if part.key not in self._row.done]
            await together(self._partition(part, gate) for part in todo)
            await self._end(failed)
            return self._row

    async def _catalogue(self) -> Sequence[Partition]:
        asking = self._source.partitions()
        request, parts = _advance(asking, None)
        while request is not None:
            raw = await self._ask(request, None, 1)
            request, parts = _advance(asking, raw)
        return parts or ()

    async def _ask(self, request: Request, part: Partition | None, page: int) -> Raw:
        window = self._house.windows[self._source.name]
        return await window.ask(request, partition=part, page=page, tally=self._tally)

    async def _partition(self, part: Partition, gate: asyncio.Semaphore) -> None:
        async with gate:
            walk = _Walk(part)
            try:
                await self._pages(walk)
            except Failure as failure:
                self._cut_short.append(walk)
                self._errors[part.key] = _fault(failure)
                _log.warning("partition.failed", partition=part.key, **_fault(failure))

    async def _pages(self, walk: _Walk) -> None:
        asking = self._source.pages(walk.part)
        request, promised = _advance(asking, None)
        page = 1
        while request is not None:
            raw = await self._ask(request, walk.part, page)
            request, promised = _advance(asking, raw)
            records = await _read(self._source, raw)
            await self._commit(walk, raw, records, promised if request is None else MORE)
            page += 1
        shortfall = walk.shortfall(promised)
        if shortfall is not None:
            raise shortfall

    async def _commit(
        self, walk: _Walk, raw: Raw, records: Sequence[Record], promised: int | None
    ) -> None:
        kept = [record for record in records if not isinstance(record, Rejected)]
        odd = [record for record in records if isinstance(record, Rejected)]
        seen = walk.seen.union(self._job.key(record) for record in kept)
        # A record may be kept although a part of it was refused: it is one record all the same.
        refused = walk.refused.union(r.record_id or f"{raw.page}:{n}" for n, r in enumerate(odd))
        nameless = walk.nameless or any(record.record_id is None for record in odd)
        async with self._turn:
            pool = self._house.pool
            async with pool.acquire() as connection, connection.transaction():
                written = await self._job.write(
                    connection, kept, raw.fetched_at, self._claimed.run_id
                )
                if odd:
                    where = (self._source.name, walk.part.key, raw.page)
                    await progress.reject(connection, self._claimed, where, odd)
                page = Counts(
                    pages=1,
                    records=len(seen) - len(walk.seen),
                    prices=written.prices,
                    inserted=written.inserted,
                    changed=written.changed,
                    unchanged=written.unchanged,
                    rejected=len(odd),
                )
                redone = _redone(page, self._row.redo)
                page = page.plus(redone)
                after = _Walk(
                    walk.part, walk.counts.plus(page), seen, refused, nameless, raw.fetched_at
                )
                await self._list(connection, after, promised)
                row = replace(
                    self._row_after(page, after, promised), redo=self._row.redo.minus(redone)
                )
                await progress.write(connection, self._claimed, row, _named(self._job, page))
            self._row = row
            walk.counts, walk.seen, walk.refused = after.counts, seen, refused
            walk.nameless, walk.at = nameless, raw.fetched_at

    async def _list(self, connection: Connection, walk: _Walk, promised: int | None) -> None:
        presence = self._job.presence
        ended = promised is not MORE and walk.shortfall(promised) is None
        # A board with nothing on it is not believed: the catalogue, or the next listing, will tell.
        if presence is None or not ended or not walk.seen:
            return
        listing = walk.listing(self._source.name, counted=promised is not None)
        # What could not be read and has no name may be anything: then nothing is missing.
        keep = presence.glimpsed if walk.nameless else presence.listed
        await keep(connection, listing, self._claimed.run_id)

    def _row_after(self, page: Counts, walk: _Walk, promised: int | None) -> SourceRow:
        row = replace(self._spent(), counts=self._row.counts.plus(page))
        if promised is MORE or walk.shortfall(promised) is not None:
            return row
        return replace(
            row,
            done=(*row.done, walk.part.key),
            done_counts=row.done_counts.plus(walk.counts),
        )

    def _spent(self) -> SourceRow:
        begun, tally = self._begun, self._tally
        return replace(
            self._row,
            requests=begun.requests + tally.requests,
            retries=begun.retries + tally.retries,
            bytes=begun.bytes + tally.bytes,
            throttled_ms=begun.throttled_ms + tally.throttled_ms,
            duration_seconds=begun.duration_seconds + time.monotonic() - self._started,
            errors=dict(self._errors),
        )

    async def _end(self, failed: Failure | None) -> None:
        row = self._spent()
        if failed is None and self._job.never_empty and not row.counts.records and not row.errors:
            failed = Incomplete("the site listed nothing at all")
        status = RunStatus.SUCCESS
        if failed is not None or (row.errors and not row.counts.records):
            status = RunStatus.FAILURE
        elif row.errors:
            status = RunStatus.PARTIAL_FAILURE
        kind, message = _why(row, failed)
        self._row = replace(row, status=status, error_kind=kind, error_message=message)
        async with self._house.pool.acquire() as connection, connection.transaction():
            await self._sum_up(connection, self._row)
            await progress.write(connection, self._claimed, self._row, {})
        _log.info(
            "source.finished",
            status=status.value,
            error=message,
            requests=row.requests,
            retries=row.retries,
            throttled_ms=row.throttled_ms,
            **_named(self._job, row.counts),
        )

    async def _sum_up(self, connection: Connection, row: SourceRow) -> None:
        presence, run_id = self._job.presence, self._claimed.run_id
        if presence is None:
            return
        for walk in self._cut_short:
            await presence.glimpsed(connection, walk.listing(self._source.name), run_id)
        if row.status is RunStatus.SUCCESS and len(row.done) == row.partitions:
            now = self._house.clock()
            await presence.catalogued(connection, self._source.name, row.done, now, run_id)


_NEVER = datetime.min.replace(tzinfo=UTC)
MORE = -1  # pages are still to come, so nothing can be missing yet


def _redone(page: Counts, redo: Counts) -> Counts:
    """Set right a page that an earlier attempt wrote: this run did not find it unchanged."""
    inserted = min(page.unchanged, redo.inserted)
    changed = min(page.unchanged - inserted, redo.changed)
    return Counts(inserted=inserted, changed=changed, unchanged=-inserted - changed)


def _advance(
    asking: Generator[Request, Raw, Told], raw: Raw | None
) -> tuple[Request | None, Told | None]:
    try:
        return (next(asking) if raw is None else asking.send(raw)), None
    except StopIteration as stop:
        return None, stop.value
    except Failure:
        raise
    except Exception as error:
        raise _unread(error, raw) from error


async def _read(source: Source, raw: Raw) -> list[Record]:
    if len(raw.body) > LARGE:
        return await asyncio.to_thread(_parsed, source, raw)
    return _parsed(source, raw)


def _parsed(source: Source, raw: Raw) -> list[Record]:
    try:
        return list(source.parse(raw))
    except Failure:
        raise
    except Exception as error:
        raise _unread(error, raw) from error


def _unread(error: Exception, raw: Raw | None) -> Schema:
    # A source must raise nothing but Failure; if it does, the page is not as it thought.
    message = f"the page could not be read: {type(error).__name__}: {error}"
    return Schema(message, status=raw and raw.status, url=raw and raw.url)


def _fault(failure: Failure) -> dict[str, Any]:
    return {
        "kind": failure.kind.value,
        "error": str(failure)[:500],
        "status": failure.status,
        "url": failure.url,
        "attempts": failure.attempts,
    }


def _why(row: SourceRow, failed: Failure | None) -> tuple[str | None, str | None]:
    if failed is not None:
        return failed.kind.value, str(failed)[:500]
    if not row.errors:
        return None, None
    first = next(iter(row.errors.values()))
    part = next(iter(row.errors))
    return first["kind"], f"{len(row.errors)} of {row.partitions} failed; {part}: {first['error']}"
