"""Replays: a mended parser over the pages that were kept. No site is asked.

Of each record the last page that has it is what counts, as when the pages came.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

from app.errors import Failure
from app.messages import Raw
from app.records import Item, OddsEvent, Record, Rejected
from app.sources.base import Source
from app.store import beats
from app.store import replays as store
from app.store.db import Connection, Pool
from app.store.replays import Kept, KeptPage

SHOWN = 20  # differences
Write = Callable[[Connection, Sequence[Any], datetime, UUID], Awaitable[object]]
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """How the pages of a source are read, and how its records are kept."""

    job: str
    source: Source
    write: Write


@dataclass(frozen=True, slots=True)
class Wish:
    """Which pages are to be read again, and who wants it."""

    since: datetime
    only_rejected: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one record. None: it was not there, or is no longer."""

    record: str
    field: str
    before: Any
    after: Any


@dataclass(slots=True)
class Report:
    """What a replay found, or did. `readable`: records that had been put aside."""

    pages: int = 0
    unreadable: int = 0
    records: int = 0
    new: int = 0
    changed: int = 0
    readable: int = 0
    refused: int = 0
    left_alone: int = 0
    run_id: UUID | None = None
    examples: list[Difference] = field(default_factory=list[Difference])

    @property
    def differ(self) -> int:
        """How many records differ from what is stored."""
        return self.new + self.changed

    def stats(self) -> dict[str, int]:
        """The numbers, as a run's `stats` have them."""
        names = ("pages", "unreadable", "records", "new", "changed", "readable", "refused")
        return {name: getattr(self, name) for name in (*names, "left_alone")}


@dataclass(frozen=True, slots=True)
class _Page:
    """A page with what of it counts."""

    kept: KeptPage
    records: Sequence[Kept]
    refused: Sequence[Rejected]


async def replay(pool: Pool, reader: Reader, wish: Wish, told: Told, *, write: bool) -> Report:
    """Read the kept pages again and bring what is stored to what they say; or only look.

    A page at a time in a transaction of its own, so that the workers go on. What was withdrawn
    since stays withdrawn, what a worker has seen later stays as it is, and nothing is deleted.
    """
    pages = await store.kept(pool, reader.source.name, wish.since)
    last = await _last_words(pool, reader, pages)
    report = Report(run_id=uuid4() if write else None)
    wanted = [page for page in pages if page.refused or not wish.only_rejected]
    if report.run_id is not None:
        begun = await beats.database_now(pool)
        params = {
            "source": reader.source.name,
            "since": wish.since.isoformat(),
            "only_rejected": wish.only_rejected,
        }
        await store.begin(pool, report.run_id, (reader.job, wish.by, params), begun)
    for number, page in enumerate(wanted, 1):
        await _replay(pool, reader, page, last, report)
        told(number, len(wanted))
    if report.run_id is not None:
        await store.end(pool, report.run_id, report.stats(), await beats.database_now(pool))
    return report


async def _last_words(pool: Pool, reader: Reader, pages: Sequence[KeptPage]) -> Mapping[str, int]:
    """In which page each record is found last."""
    last: dict[str, int] = {}
    for page in pages:
        records = await _read(pool, reader, page)
        last.update((name, page.id) for name in _by_name(records or ()))
    return last


def _by_name(records: Sequence[Record]) -> dict[str, Kept]:
    return {store.name(r): r for r in records if isinstance(r, Kept)}


async def _read(pool: Pool, reader: Reader, page: KeptPage) -> list[Record] | None:
    raw = await store.raw(pool, page)
    if raw is None:
        return None
    return await asyncio.to_thread(_parsed, reader.source, raw)


def _parsed(source: Source, raw: Raw) -> list[Record] | None:
    try:
        return list(source.parse(raw))
    except Failure:
        return None
    except Exception:  # noqa: BLE001 - a parser that is being mended may raise whatever
        return None


async def _replay(
    pool: Pool, reader: Reader, kept: KeptPage, last: Mapping[str, int], report: Report
) -> None:
    found = await _read(pool, reader, kept)
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
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await _bring(connection, reader, page, report)
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if report.run_id is None else transaction.commit())


async def _bring(connection: Connection, reader: Reader, page: _Page, report: Report) -> None:
    before = await store.said(connection, page.records)
    run_id = report.run_id or uuid4()
    now: datetime = await connection.fetchval("SELECT now()")
    written: list[Kept] = []
    for at, records in await _instants(connection, page, now, report):
        await reader.write(connection, records, at, run_id)
        written += records
    await _settle(connection, page, written)
    after = await store.said(connection, written)
    differs = _compare(before, after, report)
    source = reader.source.name
    readable = 0
    if page.kept.refused:
        still = [record.data for record in page.refused]
        readable = await store.readable(connection, source, page.kept, still)
        report.readable += readable
    if differs or readable:
        await store.unknown(connection, source, page.kept.body_hash)


async def _instants(
    connection: Connection, page: _Page, now: datetime, report: Report
) -> list[tuple[datetime, list[Kept]]]:
    """As of when each record is to be written.

    News are written now. Odds and items count from when they were seen, and later listings that
    were the same have moved that on; what has left its source since is left alone.
    """
    seen = await _seen(connection, page.records)
    if seen is None:
        return [(now, list(page.records))] if page.records else []
    timed: list[tuple[datetime, Kept]] = []
    for record in page.records:
        at, gone = seen.get(store.name(record), (page.kept.fetched_at, False))
        if gone:
            report.left_alone += 1
        else:
            timed.append((max(at, page.kept.fetched_at), record))
    timed.sort(key=lambda pair: pair[0])
    return [(at, [r for _, r in some]) for at, some in groupby(timed, key=lambda pair: pair[0])]


async def _seen(
    connection: Connection, records: Sequence[Kept]
) -> Mapping[str, tuple[datetime, bool]] | None:
    names = [store.name(record) for record in records]
    match records:
        case [OddsEvent(platform=platform), *_]:
            return await store.seen(connection, platform, names)
        case [Item(source=source), *_]:
            return await store.items_seen(connection, source, names)
        case _:
            return None


async def _settle(connection: Connection, page: _Page, written: Sequence[Kept]) -> None:
    odds = [record for record in written if isinstance(record, OddsEvent)]
    if odds:
        ids = [event.platform_event_id for event in odds]
        await store.belong(connection, odds[0].platform, page.kept.partition, ids)


def _compare(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]], report: Report
) -> bool:
    differs = False
    for name, now in after.items():
        was = before.get(name)
        if was == now:
            continue
        differs = True
        if was is None:
            report.new += 1
            _show(report, Difference(name, "(new)", None, None))
            continue
        report.changed += 1
        for key in sorted({*was, *now}):
            if was.get(key) != now.get(key):
                _show(report, Difference(name, key, was.get(key), now.get(key)))
    return differs


def _show(report: Report, difference: Difference) -> None:
    if len(report.examples) < SHOWN:
        report.examples.append(difference)
