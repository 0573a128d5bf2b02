"""Replays: parse stored pages again, after a parser was fixed. No request is made to a site.

If a record is on several pages, the last page wins, as it did when the pages were fetched.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

from app.core.errors import Failure
from app.core.messages import RawPage
from app.core.records import Item, OddsEvent, Record, Rejected
from app.sources.base import Source
from app.sources.recipes.collisions import KeyPlaces
from app.store.db import Connection, Pool
from app.store.runs import replays as store
from app.store.runs.replays import ReplayedRecord, ReplayPage
from app.store.schedules import heartbeats

MAX_EXAMPLES = 20  # differences listed in a report
Write = Callable[[Connection, Sequence[Any], datetime, UUID], Awaitable[object]]
ReplayProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """The job of a replayed source, its parser, and the function that stores its records.

    `org_id`: whose rows are compared; an organisation's are items.
    """

    job: str
    source: Source
    write: Write
    org_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A request for a replay: the pages fetched from `since` on, and who requested it.

    `only_rejected`: only pages that had rejected records.
    """

    since: datetime
    only_rejected: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A changed field of a record. `before` or `after` is None where the field is absent."""

    record: str
    field: str
    before: Any
    after: Any


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay or of its dry run.

    `unreadable`: pages that are gone or could not be parsed. `readable`: records that were rejected
    before and are parsed now. `refused`: records that are rejected now. `left_alone`: records that
    have left their source since. `examples`: the first SHOWN differences.
    """

    pages: int = 0
    unreadable: int = 0
    records: int = 0
    new: int = 0
    changed: int = 0
    readable: int = 0
    refused: int = 0
    left_alone: int = 0
    run_id: UUID | None = None
    examples: list[FieldDifference] = field(default_factory=list[FieldDifference])

    @property
    def differ(self) -> int:
        """The number of records that differ from what is stored."""
        return self.new + self.changed

    def stats(self) -> dict[str, int]:
        """Return the counts under the names used in a run's `stats`."""
        names = ("pages", "unreadable", "records", "new", "changed", "readable", "refused")
        return {name: getattr(self, name) for name in (*names, "left_alone")}


@dataclass(frozen=True, slots=True)
class _Page:
    """A stored page with the records it contributes and those it rejects."""

    kept: ReplayPage
    records: Sequence[ReplayedRecord]
    refused: Sequence[Rejected]


async def replay(
    pool: Pool,
    reader: ReplaySource,
    request: ReplayRequest,
    on_progress: ReplayProgressCallback,
    *,
    write: bool,
) -> ReplayReport:
    """Parse the stored pages again and update the stored records; without `write`, only compare.

    Each page has its own transaction, so that workers are not blocked. Nothing is deleted: events
    withdrawn since stay withdrawn, and records that a worker has seen later keep their values.
    """
    pages = await store.pages_to_replay(pool, reader.source.name, request.since)
    parser = _Parser(pool, reader.source)
    last = await _last_pages(parser, pages)
    report = ReplayReport(run_id=uuid4() if write else None)
    selected = [page for page in pages if page.refused or not request.only_rejected]
    if report.run_id is not None:
        started_at = await heartbeats.database_now(pool)
        params = {
            "source": reader.source.name,
            "since": request.since.isoformat(),
            "only_rejected": request.only_rejected,
        }
        await store.begin(pool, report.run_id, (reader.job, request.by, params), started_at)
    for number, page in enumerate(selected, 1):
        await _replay_page(reader, parser, page, last, report)
        on_progress(number, len(selected))
    if report.run_id is not None:
        await store.end(pool, report.run_id, report.stats(), await heartbeats.database_now(pool))
    return report


async def compare_page(
    connection: Connection, reader: ReplaySource, kept: ReplayPage, found: Sequence[Record]
) -> ReplayReport:
    """What a replay of this page alone would change, if its parser found these records.

    It is written in a transaction that is rolled back, so that nothing is stored.
    """
    report = ReplayReport(pages=1)
    refused = [record for record in found if isinstance(record, Rejected)]
    page = _Page(kept, list(_by_name(found).values()), refused)
    report.records, report.refused = len(page.records), len(refused)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await _update(connection, reader, page, report)
    finally:
        await transaction.rollback()
    return report


@dataclass(frozen=True, slots=True)
class _Parser:
    """Parses stored pages. `places`: the keys of each run, as the run itself has noted them."""

    pool: Pool
    source: Source
    places: defaultdict[UUID, KeyPlaces] = field(default_factory=lambda: defaultdict(KeyPlaces))

    async def records_of(self, page: ReplayPage) -> list[Record] | None:
        """Return the records of a page; None if it is gone or cannot be parsed."""
        raw = await store.load_page(self.pool, page)
        found = None if raw is None else await asyncio.to_thread(_parse, self.source, raw)
        if found is None:
            return None
        return self.places[page.run_id].checked(found, page.partition, page.page)


async def _last_pages(parser: _Parser, pages: Sequence[ReplayPage]) -> Mapping[str, int]:
    """Return the id of the last page on which each record is found."""
    last: dict[str, int] = {}
    for page in pages:
        records = await parser.records_of(page)
        last.update((name, page.id) for name in _by_name(records or ()))
    return last


def _by_name(records: Sequence[Record]) -> dict[str, ReplayedRecord]:
    return {store.record_key(r): r for r in records if isinstance(r, ReplayedRecord)}


def _parse(source: Source, raw: RawPage) -> list[Record] | None:
    try:
        return list(source.parse(raw))
    except Failure:
        return None
    except Exception:  # noqa: BLE001 - a parser under repair may raise anything
        return None


async def _replay_page(
    reader: ReplaySource,
    parser: _Parser,
    kept: ReplayPage,
    last: Mapping[str, int],
    report: ReplayReport,
) -> None:
    found = await parser.records_of(kept)
    report.pages += 1
    if found is None:
        report.unreadable += 1
        return
    by_name = _by_name(found)
    page = _Page(
        kept,
        [record for name, record in by_name.items() if last.get(name) == kept.id],
        [record for record in found if isinstance(record, Rejected)],
    )
    report.records += len(page.records)
    report.refused += len(page.refused)
    async with parser.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await _update(connection, reader, page, report)
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if report.run_id is None else transaction.commit())


async def _update(
    connection: Connection, reader: ReplaySource, page: _Page, report: ReplayReport
) -> None:
    before = await store.stored_fields(connection, page.records, reader.org_id)
    run_id = report.run_id or uuid4()
    written: list[ReplayedRecord] = []
    for at, records in await _by_write_time(connection, reader, page, report):
        await reader.write(connection, records, at, run_id)
        written += records
    await _assign_partition(connection, page, written)
    after = await store.stored_fields(connection, written, reader.org_id)
    differs = _compare(before, after, report)
    source = reader.source.name
    readable = 0
    if page.kept.refused:
        still_rejected = [record.data for record in page.refused]
        readable = await store.delete_readable(connection, source, page.kept, still_rejected)
        report.readable += readable
    if differs or readable:
        await store.delete_validators(connection, source, page.kept.body_hash)


async def _by_write_time(
    connection: Connection,
    reader: ReplaySource,
    page: _Page,
    report: ReplayReport,
) -> list[tuple[datetime, list[ReplayedRecord]]]:
    """Group the records by the instant as of which they are written, in order of time.

    News is written as of when its page was fetched, so that it replaces no later version. Odds and
    items are written as of when they were last seen, which later unchanged listings have moved on.
    Records that have left their source are left out.
    """
    seen = await _seen(connection, page.records, reader.org_id)
    if seen is None:
        return [(page.kept.fetched_at, list(page.records))] if page.records else []
    timed: list[tuple[datetime, ReplayedRecord]] = []
    for record in page.records:
        at, gone = seen.get(store.record_key(record), (page.kept.fetched_at, False))
        if gone:
            report.left_alone += 1
        else:
            timed.append((max(at, page.kept.fetched_at), record))
    timed.sort(key=lambda pair: pair[0])
    return [(at, [r for _, r in group]) for at, group in groupby(timed, key=lambda pair: pair[0])]


async def _seen(
    connection: Connection, records: Sequence[ReplayedRecord], org_id: UUID | None
) -> Mapping[str, tuple[datetime, bool]] | None:
    names = [store.record_key(record) for record in records]
    match records:
        case [OddsEvent(platform=platform), *_]:
            return await store.events_seen(connection, platform, names)
        case [Item(source=source), *_]:
            return await store.items_seen(connection, source, names, org_id)
        case _:
            return None


async def _assign_partition(
    connection: Connection, page: _Page, written: Sequence[ReplayedRecord]
) -> None:
    odds = [record for record in written if isinstance(record, OddsEvent)]
    if odds:
        ids = [event.platform_event_id for event in odds]
        await store.assign_partition(connection, odds[0].platform, page.kept.partition, ids)


def _compare(
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
    report: ReplayReport,
) -> bool:
    differs = False
    for name, now in after.items():
        was = before.get(name)
        if was == now:
            continue
        differs = True
        if was is None:
            report.new += 1
            _add_example(report, FieldDifference(name, "(new)", None, None))
            continue
        report.changed += 1
        for key in sorted({*was, *now}):
            if was.get(key) != now.get(key):
                _add_example(report, FieldDifference(name, key, was.get(key), now.get(key)))
    return differs


def _add_example(report: ReplayReport, difference: FieldDifference) -> None:
    if len(report.examples) < MAX_EXAMPLES:
        report.examples.append(difference)
