"""Exports of an organisation's rows, read page by page and encoded as they are read.

Each page is a short transaction of its own, so an export holds nothing open while a slow client
reads, and another one can continue after any row. Memory does not depend on the number of rows.
"""

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.core.csv_cells import csv_cell
from app.core.errors import Gone
from app.maintenance import export
from app.store import tenancy
from app.store.db import Connection, Pool
from app.store.orgs import exports as store
from app.store.orgs.exports import ExportColumn, OrgExport, Place
from app.store.reports.exports import ExportRange

PAGE_ROWS = 500
ROWS_PER_READ = 50  # an item may have 256 KB
MAX_PAGE_BYTES = 1_000_000  # of the JSON of a page's rows; a page ends after the read that exceeds
ROW_GROUP_PAGES = 20
SETTLE_SECONDS = 10.0  # that an export waits for transactions that are writing when it begins
SETTLE_POLL_SECONDS = 0.05
MAX_GROUP_CHARS = 16_000_000  # of the texts of a row group; it ends after the page that exceeds

Pages = AsyncIterator[list[dict[str, Any]]]


async def pages(
    pool: Pool, org_id: UUID, kind: OrgExport, span: ExportRange, after: str | None
) -> AsyncGenerator[list[dict[str, Any]]]:
    """Yield the rows in the order of their cursors, which each row has in `cursor`.

    Raises Gone if retention has dropped rows after `after`, or drops some that were not read yet,
    or if nothing is written up to `after` yet; and TimeoutError if a transaction writes for long.
    """
    end = await _settled_end(pool, org_id, kind)
    place = kind.begin if after is None else kind.parse(after)
    if place[0] > end:
        raise Gone("no row has this cursor yet: start again without it")
    dropped_before = None if after is None else 0
    while True:
        async with tenancy.org_transaction(pool, org_id) as connection:
            if dropped_before is None:
                dropped_before = await store.dropped_through(connection, kind)
            rows, following = await _page(connection, org_id, kind, span, place, end)
            dropped = await store.dropped_through(connection, kind)
        if dropped > dropped_before and place[0] <= dropped:
            raise Gone("rows after this cursor are no longer kept: start again without it")
        if rows:
            yield rows
        if following is None:
            return
        place = following


async def _settled_end(pool: Pool, org_id: UUID, kind: OrgExport) -> Any:
    """Return the end of what is written, once nothing can be added before it any more."""
    end = await store.end(pool, kind)
    writers = await store.writers(pool, kind, org_id)
    async with asyncio.timeout(SETTLE_SECONDS):
        while writers:
            await asyncio.sleep(SETTLE_POLL_SECONDS)
            writers = await store.writers(pool, kind, org_id, writers)
    return end


async def _page(
    connection: Connection, org_id: UUID, kind: OrgExport, span: ExportRange, place: Place, end: Any
) -> tuple[list[dict[str, Any]], Place | None]:
    """Return the rows of a page, read a few at a time, and the place after it; None at the end."""
    large = [column.name for column in kind.columns if column.type == "json"]
    rows: list[dict[str, Any]] = []
    size = 0
    while len(rows) < PAGE_ROWS and size <= MAX_PAGE_BYTES:
        count = min(ROWS_PER_READ, PAGE_ROWS - len(rows))
        some = await store.rows(connection, org_id, kind, span, place, count, end)
        rows += some
        if len(some) < count:
            return rows, None
        place = kind.parse(some[-1]["cursor"])
        size += len(msgspec.json.encode([row[name] for row in some for name in large]))
    return rows, place


async def as_csv(columns: Sequence[ExportColumn], rows: Pages) -> AsyncGenerator[bytes]:
    """Yield CSV with a header. A text that spreadsheets would read as a formula is quoted."""
    names = [column.name for column in columns]
    lines: list[list[object]] = [[*names]]  # the header goes with the first page, which may fail
    async for page in rows:
        lines += [[csv_cell(_text(row[name])) for name in names] for row in page]
        yield _csv(lines)
        lines.clear()
    if lines:
        yield _csv(lines)


async def as_json_lines(columns: Sequence[ExportColumn], rows: Pages) -> AsyncGenerator[bytes]:
    """Yield one JSON object per line."""
    names = [column.name for column in columns]
    async for page in rows:
        objects = ({name: row[name] for name in names} for row in page)
        lines = (f"{json.dumps(one, default=_plain, ensure_ascii=False)}\n" for one in objects)
        yield "".join(lines).encode()


async def as_parquet(columns: Sequence[ExportColumn], rows: Pages) -> AsyncGenerator[bytes]:
    """Yield a Parquet file, one row group after the other. Raises BadParameters without pyarrow."""
    arrow, parquet = export.load_pyarrow()
    types = {"instant": arrow.timestamp("us", tz="UTC"), "number": arrow.float64()}
    schema = arrow.schema([(one.name, types.get(one.type, arrow.string())) for one in columns])
    sink = _Buffer()
    group: list[dict[str, Any]] = []
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        pages_read = size = 0
        async for page in rows:
            cells = [{one.name: _cell(one, row[one.name]) for one in columns} for row in page]
            group += cells
            pages_read += 1
            size += sum(len(v) for row in cells for v in row.values() if isinstance(v, str))
            if pages_read >= ROW_GROUP_PAGES or size > MAX_GROUP_CHARS:
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))
                group.clear()
                pages_read = size = 0
                yield sink.take()
        if group:
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
    yield sink.take()


Encoder = Callable[[Sequence[ExportColumn], Pages], AsyncGenerator[bytes]]
# Encoder and media type by format.
FORMATS: dict[str, tuple[Encoder, str]] = {
    "csv": (as_csv, "text/csv; charset=utf-8"),
    "jsonl": (as_json_lines, "application/x-ndjson"),
    "parquet": (as_parquet, "application/vnd.apache.parquet"),
}


class _Buffer(io.RawIOBase):
    """A file that keeps only what was not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = bytearray()
        self._taken = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts += data
        return len(data)

    def tell(self) -> int:
        return self._taken + len(self._parts)

    def take(self) -> bytes:
        """What was written since the last time."""
        part = bytes(self._parts)
        self._taken += len(part)
        self._parts.clear()
        return part


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _text(value: Any) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value


def _cell(column: ExportColumn, value: Any) -> object:
    if value is None or column.type in ("instant", "number"):
        return value
    return str(_text(value))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
