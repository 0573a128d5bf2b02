"""One source of one run: asked page by page, each page stored with its counters in one go."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog

from app import coverage, log
from app.coverage import Coverage
from app.errors import ApiError, Failure, Incomplete, Schema, Spent
from app.fetch.client import Tally
from app.fetch.retry import PATIENCE
from app.messages import Partition, Raw, Request
from app.records import Record, Rejected
from app.resources import House
from app.sources.base import Apart, Source, turn_of, window_of
from app.store import pages as store
from app.store import progress, tenancy
from app.store.boards import Listing
from app.store.db import REFUSED, Connection
from app.store.pages import Known
from app.store.progress import Counts, SourceRow
from app.store.runs import Claimed
from app.words import FailureKind, RunStatus
from workers import expect
from workers.budget import Budget
from workers.job import Part, Turned
from workers.pages import Page, Pages
from workers.together import together

LARGE = 256 * 1024  # bytes; a larger page is read off the event loop

Told = TypeVar("Told")
_log = log.logger(__name__)


def totals(parts: Iterable[Part], rows: Iterable[SourceRow]) -> dict[str, int]:
    """A run's totals over its sources, as `stats` name them."""
    jobs = {part.source.name: part.job for part in parts}
    total = Counter[str]()
    for job in jobs.values():
        total.update(job.told(SourceRow("")))
    for row in rows:  # one that the plan has no more ended in an earlier attempt
        total.update(jobs.get(row.source, next(iter(jobs.values()))).told(row))
    return dict(total)


def foremost(kinds: Sequence[str]) -> str:
    """Of several kinds of failure the one that explains the others: at home, what is wrong."""
    return next((kind for kind in _AT_HOME if kind in kinds), kinds[0])


@dataclass(slots=True)
class _Walk:
    """The way through one partition so far."""

    part: Partition
    counts: Counts = field(default_factory=Counts)
    seen: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    begun: datetime | None = None
    nameless: bool = False  # some of the refused did not even say which they are
    at: datetime | None = None
    coverage: Coverage = field(default_factory=Coverage)

    def listing(self, source: str, *, counted: bool = False) -> Listing:
        present = self.seen | self.refused
        return Listing(source, self.part.key, self.seen, present, self.at or _NEVER, counted)

    def shortfall(self, promised: int | Incomplete | None) -> Incomplete | None:
        if isinstance(promised, Incomplete):
            return None  # asking again would not help: it is done, if not in full
        have = len(self.seen | self.refused)
        if promised is None or (have >= promised and (self.seen or not promised)):
            return None
        return Incomplete(f"{len(self.seen)} records where the site says there are {promised}")

    def after(self, find: "_Find", counts: Counts) -> "_Walk":
        content = find.content
        return _Walk(
            self.part,
            self.counts.plus(counts),
            self.seen | content.keys,
            self.refused | content.refused,
            self.begun,
            self.nameless or any(NAMELESS.fullmatch(name) for name in content.refused),
            find.page.raw.fetched_at,
            self.coverage.plus(content.coverage),
        )


@dataclass(frozen=True, slots=True)
class _Find:
    """A page and what is in it; of an unchanged one only what is known, and nothing to store."""

    page: Page
    content: Known
    kept: Sequence[Record] = ()
    odd: Sequence[Rejected] = ()
    packed: bytes | None = None


class Drive:
    """Takes one source through its partitions, side by side as far as its limits go."""

    def __init__(
        self,
        house: House,
        part: Part,
        claimed: Claimed,
        row: SourceRow,
        budget: Budget | None = None,
    ) -> None:
        self._house = house
        self._job = part.job
        self._claimed = claimed
        self._source = source = part.source
        self._expected = part.job.expects(source)
        self._row = row
        self._begun = row
        self._errors: dict[str, Any] = {}
        self._cut_short: list[_Walk] = []
        self._tally = Tally()
        self._asked = Pages(house, claimed, source.name, self._tally, budget, window_of(source))
        self._spent: Spent | None = None
        if budget is not None:
            budget.tallies.append(self._tally)
        self._started = time.monotonic()
        self._turn = asyncio.Lock()  # a source's pages are committed one after the other
        self.late: tuple[datetime, Failure] | None = None
        """Until when the site is not to be asked, if that stopped the source, and what said so."""

    @property
    def row(self) -> SourceRow:
        """The source's row as it stands."""
        return self._row

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
                self._blame("catalogue", failure)
            self._row = replace(self._row, partitions=len(parts))
            gate = asyncio.Semaphore(self._source.limits.concurrency)
            todo = [part for part in parts if part.key not in self._row.done]
            await together(self._partition(part, gate) for part in todo)
            await self._end(failed)
            return self._row

    async def _catalogue(self) -> Sequence[Partition]:
        asking = self._source.partitions()
        before = self._source.limits
        request, parts = _advance(asking, None)
        while request is not None:
            answer = await self._answer(request, None, 1)
            if isinstance(answer, Failure):
                request, parts = _advance(asking, answer)
                continue
            await self._asked.keep(answer)
            request, parts = _advance(asking, answer.raw)
            if not all(part.key.isprintable() for part in parts or ()):
                raise Schema("a part of the catalogue has no name", url=answer.raw.url)
        if self._source.limits is not before:
            self._house.windows[window_of(self._source)].pace(self._source.limits)
        return parts or ()

    async def _answer(
        self, request: Request, part: Partition | None, number: int
    ) -> Page | Failure:
        if request.wait > 0:
            self._tally.throttled_ms += round(request.wait * 1000)
            await asyncio.sleep(request.wait)
        try:
            return await self._asked.ask(request, part, number)
        except Failure as failure:
            return failure  # the source is told first: it may know something else to ask for

    async def _partition(self, part: Partition, gate: asyncio.Semaphore) -> None:
        async with gate:
            # The site has asked for a longer pause than a slot is worth, or we may ask no more.
            stopped = self._spent or (self.late and self.late[1])
            if stopped:
                self._errors[part.key] = _fault(stopped) | {"attempts": 0}
                return
            try:
                await self._walked(part)
            except Failure as failure:
                self._blame(part.key, failure)

    async def _walked(self, part: Partition) -> None:
        for pause in (*AGAIN, None):
            walk = _Walk(part)
            try:
                await self._pages(walk)
                return
            except Failure as failure:
                # What the window could mend by asking again it has; this is what the source knows.
                again = isinstance(failure, ApiError) and failure.retry and not walk.counts.pages
                if pause is None or not again:
                    self._cut_short.append(walk)
                    raise
                self._tally.retries += 1
                _log.info("partition.again", partition=part.key, error=str(failure), wait=pause)
                await asyncio.sleep(pause)

    def _blame(self, what: str, failure: Failure) -> None:
        self._errors[what] = _fault(failure)
        _log.warning("partition.failed", partition=what, **_fault(failure))
        if isinstance(failure, Spent):
            self._spent = failure
        if failure.retry_in is not None and failure.retry_in > PATIENCE:
            until = self._house.clock() + timedelta(seconds=failure.retry_in)
            self.late = self.late or (until, failure)

    async def _pages(self, walk: _Walk) -> None:
        asking = self._source.pages(walk.part)
        request, promised = _advance(asking, None)
        number = 1
        while request is not None:
            page = await self._answer(request, walk.part, number)
            if isinstance(page, Failure):
                request, promised = _advance(asking, page)
                continue
            walk.begun = walk.begun or page.raw.fetched_at
            try:
                page = await self._read_apart(page)
                request, promised = _advance(asking, page.raw)
                records = [] if page.known else await _read(self._source, page.raw)
            except Failure:
                await self._asked.keep(page)  # a mended parser may read it yet
                raise
            await self._store_page(walk, page, records, promised if request is None else MORE)
            number += 1
        shortfall = promised if isinstance(promised, Incomplete) else walk.shortfall(promised)
        if shortfall is not None:
            raise shortfall
        if walk.counts.pages and walk.part.key not in self._row.done:
            await self._close(walk, promised)

    async def _store_page(
        self,
        walk: _Walk,
        page: Page,
        records: Sequence[Record],
        promised: int | Incomplete | None,
    ) -> None:
        try:
            await self._commit(walk, await self._found(page, records), promised)
        except REFUSED as error:
            message = f"Postgres refuses what is in the page: {error}"
            raise Schema(message, status=page.raw.status, url=page.raw.url) from error

    async def _close(self, walk: _Walk, promised: int | Incomplete | None) -> None:
        """End a partition whose source learnt from a failure that its last page was the last."""
        async with self._turn:
            org_id = self._claimed.org_id
            async with tenancy.transaction(self._house.pool, org_id) as connection:
                await self._list(connection, walk, promised)
                row = self._row_after(Counts(), walk, promised)
                await self._turned(connection, walk, row)
                await progress.write(connection, self._claimed, row, self._added(row))
            self._row = row

    async def _read_apart(self, page: Page) -> Page:
        if not isinstance(self._source, Apart):
            return page
        errand = self._source.errand(page.raw)
        answer = await self._house.sandbox.read(turn_of(self._source), errand)
        if len(answer) > LARGE:
            return replace(
                page, raw=await asyncio.to_thread(self._source.returned, page.raw, answer)
            )
        return replace(page, raw=self._source.returned(page.raw, answer))

    async def _found(self, page: Page, records: Sequence[Record]) -> _Find:
        if page.known is not None:
            return _Find(page, page.known)
        kept = [record for record in records if not isinstance(record, Rejected)]
        odd = [record for record in records if isinstance(record, Rejected)]
        keys = frozenset(self._job.key(record) for record in kept)
        # A record may be kept although a part of it was refused: it is one record all the same.
        names = (r.record_id or f"#{page.raw.page}:{n}" for n, r in enumerate(odd))
        content = page.found(keys, frozenset(names), len(odd))
        content = replace(content, coverage=await _covered(page, kept, self._expected.instant))
        return _Find(page, content, kept, odd, await self._asked.packed(page))

    async def _commit(self, walk: _Walk, find: _Find, promised: int | Incomplete | None) -> None:
        async with self._turn:
            whose = self._claimed.org_id
            async with tenancy.transaction(self._house.pool, whose) as connection:
                stored = await self._store(connection, walk.part, find)
                counts = replace(stored, records=len(find.content.keys - walk.seen))
                redone = _redone(counts, self._row.redo)
                counts = counts.plus(redone)
                after = walk.after(find, counts)
                await self._list(connection, after, promised)
                row = replace(
                    self._row_after(counts, after, promised), redo=self._row.redo.minus(redone)
                )
                await self._turned(connection, after, row)
                await progress.write(connection, self._claimed, row, self._added(row))
            self._row = row
            walk.counts, walk.seen, walk.refused = after.counts, after.seen, after.refused
            walk.nameless, walk.at, walk.coverage = after.nameless, after.at, after.coverage

    async def _list(
        self, connection: Connection, walk: _Walk, promised: int | Incomplete | None
    ) -> None:
        presence = self._job.presence
        unfinished = promised is MORE or isinstance(promised, Incomplete)
        # A board with nothing on it is not believed: the catalogue, or the next listing, will tell.
        if presence is None or unfinished or walk.shortfall(promised) or not walk.seen:
            return
        listing = walk.listing(self._source.name, counted=promised is not None)
        # What could not be read and has no name may be anything: then nothing is missing.
        keep = presence.glimpsed if walk.nameless else presence.listed
        await keep(connection, listing, self._claimed.run_id)

    async def _store(self, connection: Connection, part: Partition, find: _Find) -> Counts:
        page, content = find.page, find.content
        if page.known is not None:
            if self._job.unmoved is not None:
                await self._job.unmoved(connection, content.keys, page.raw.fetched_at)
            same = content.prices or len(content.keys)
            seen = Counts(pages=1, pages_unchanged=1, prices=content.prices, unchanged=same)
            return replace(seen, rejected=content.rejected)
        await store.alone(connection, page.fingerprint)
        if find.packed is not None:
            await self._asked.keep_with(connection, page, find.packed)
        now, run_id = page.raw.fetched_at, self._claimed.run_id
        written = await self._job.write(connection, find.kept, now, run_id)
        if find.odd:
            where = (self._source.name, part.key, page.raw.page)
            await progress.reject(connection, self._claimed, where, find.odd)
        await self._asked.remember(page, replace(content, prices=written.prices), connection)
        return Counts(
            pages=1,
            prices=written.prices,
            points=written.points,
            inserted=written.inserted,
            changed=written.changed,
            unchanged=written.unchanged,
            rejected=len(find.odd),
        )

    async def _turned(self, connection: Connection, walk: _Walk, row: SourceRow) -> None:
        if self._job.turned is None or walk.begun is None or walk.part.key not in row.done:
            return
        turned = Turned(self._source.name, walk.part.key, walk.begun, self._claimed.run_id)
        await self._job.turned(connection, turned)

    def _added(self, row: SourceRow) -> dict[str, int]:
        """What the run's totals grow by, when this row takes the place of the one before it."""
        before = self._job.told(self._row)
        return {name: count - before[name] for name, count in self._job.told(row).items()}

    def _row_after(self, page: Counts, walk: _Walk, promised: int | Incomplete | None) -> SourceRow:
        row = replace(self._used(), counts=self._row.counts.plus(page))
        if promised is MORE or walk.shortfall(promised) is not None:
            return row
        return replace(
            row,
            done=(*row.done, walk.part.key),
            done_counts=row.done_counts.plus(walk.counts),
            coverage=row.coverage.plus(walk.coverage),
        )

    def _used(self) -> SourceRow:
        begun, tally = self._begun, self._tally
        return replace(
            self._row,
            requests=begun.requests + tally.requests,
            retries=begun.retries + tally.retries,
            bytes=begun.bytes + tally.bytes,
            throttled_ms=begun.throttled_ms + tally.throttled_ms,
            classes=dict(Counter(begun.classes) + tally.classes),
            duration_seconds=begun.duration_seconds + time.monotonic() - self._started,
            errors=dict(self._errors),
        )

    async def _end(self, failed: Failure | None) -> None:
        row = self._used()
        if failed is None and self._job.never_empty and not row.counts.records and not row.errors:
            failed = Incomplete("the site listed nothing at all")
        status = RunStatus.SUCCESS
        if failed is not None or (row.errors and not self._any_good(row)):
            status = RunStatus.FAILURE
        elif row.errors:
            status = RunStatus.PARTIAL_FAILURE
        kind, message = _why(row, failed)
        self._row = replace(row, status=status, error_kind=kind, error_message=message)
        self._row = await expect.judged(
            self._house, self._claimed, self._expected, self._covered(self._row)
        )
        async with tenancy.transaction(self._house.pool, self._claimed.org_id) as connection:
            await self._sum_up(connection, self._row)
            await progress.write(connection, self._claimed, self._row, {})
        _log.info(
            "source.finished",
            status=self._row.status.value,
            error=self._row.error_message,
            requests=row.requests,
            retries=row.retries,
            throttled_ms=row.throttled_ms,
            **{name: n for name, n in self._job.told(row).items() if name != "requests"},
        )

    def _covered(self, row: SourceRow) -> SourceRow:
        whole = row.coverage
        for walk in self._cut_short:
            whole = whole.plus(walk.coverage)
        return replace(row, coverage=whole)

    def _any_good(self, row: SourceRow) -> bool:
        # Where there may be nothing new at all, a partition that was read to its end is good.
        return bool(row.counts.records if self._job.never_empty else row.done)

    async def _sum_up(self, connection: Connection, row: SourceRow) -> None:
        presence, run_id = self._job.presence, self._claimed.run_id
        if presence is None:
            return
        for walk in self._cut_short:
            await presence.glimpsed(connection, walk.listing(self._source.name), run_id)
        if row.breach is not None:
            await presence.doubted(connection, self._source.name, run_id)
        if row.status is RunStatus.SUCCESS and len(row.done) == row.partitions:
            now = self._house.clock()
            await presence.catalogued(connection, self._source.name, row.done, now, run_id)


_AT_HOME = (FailureKind.OVER_LIMIT.value, FailureKind.LOCAL_NETWORK.value)
_NEVER = datetime.min.replace(tzinfo=UTC)
NAMELESS = re.compile(r"#\d+:\d+")  # what a refused record is called that has no name
AGAIN = (1.0, 3.0)  # seconds before a partition is asked for again, if its source says that helps
MORE = -1  # pages are still to come, so nothing can be missing yet


def _redone(page: Counts, redo: Counts) -> Counts:
    """Set right a page that an earlier attempt wrote: this run did not find it unchanged."""
    inserted = min(page.unchanged, redo.inserted)
    changed = min(page.unchanged - inserted, redo.changed)
    return Counts(
        inserted=inserted,
        changed=changed,
        unchanged=-inserted - changed,
        points=redo.points if page.unchanged else 0,
    )


def _advance(
    asking: Generator[Request, Raw, Told], raw: Raw | Failure | None
) -> tuple[Request | None, Told | None]:
    try:
        if isinstance(raw, Failure):
            return asking.throw(raw), None
        return (next(asking) if raw is None else asking.send(raw)), None
    except StopIteration as stop:
        return None, stop.value
    except Failure:
        raise
    except Exception as error:
        raise _unread(error, None if isinstance(raw, Failure) else raw) from error


async def _read(source: Source, raw: Raw) -> list[Record]:
    if len(raw.body) > LARGE:
        return await asyncio.to_thread(_parsed, source, raw)
    return _parsed(source, raw)


async def _covered(page: Page, records: Sequence[Record], instant: str | None) -> Coverage:
    if len(page.raw.body) > LARGE:
        return await asyncio.to_thread(coverage.of, records, instant)
    return coverage.of(records, instant)


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
    kind = foremost([error["kind"] for error in row.errors.values()])
    part, first = next((p, e) for p, e in row.errors.items() if e["kind"] == kind)
    return first["kind"], f"{len(row.errors)} of {row.partitions} failed; {part}: {first['error']}"
