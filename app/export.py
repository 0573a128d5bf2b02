"""Rows taken out into a file: streamed, in constant memory, and there only when it is whole."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from app.errors import BadParameters
from app.store import exports as store
from app.store.db import Connection
from app.store.exports import Kind, Span

BATCH = 20_000  # rows of Parquet that are in memory at once
GROUP = 5  # batches to a row group


@dataclass(slots=True)
class Written:
    """What has been written so far. `rows` of CSV and JSON are known when all are there."""

    rows: int = 0
    bytes: int = 0


Told = Callable[[Written], None]


@asynccontextmanager
async def whole(target: str) -> AsyncGenerator[IO[bytes]]:
    """A file that takes its name only when the block has ended well; `-` is the standard output."""
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def text(  # noqa: PLR0913 - where from, what, where to, and how
    connection: Connection, kind: Kind, span: Span, file: IO[bytes], told: Told, *, lines: bool
) -> Written:
    """Write CSV, or with `lines` a JSON object a line, as it comes from Postgres."""
    written = Written()

    async def sink(data: bytes) -> None:
        file.write(data)
        written.bytes += len(data)
        told(written)

    copy = store.copy_jsonl if lines else store.copy_csv
    written.rows = await copy(connection, kind, span, sink)
    return written


async def parquet(
    connection: Connection, kind: Kind, span: Span, file: IO[bytes], told: Told
) -> Written:
    """Write Parquet, a batch at a time. Raises BadParameters if pyarrow is missing."""
    arrow, pq = _pyarrow()
    written = Written()
    async with connection.transaction(readonly=True):
        columns = await store.columns(connection, kind)
        schema = arrow.schema([(name, _type(arrow, kind_of)) for name, kind_of in columns])
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            held: list[Any] = []
            async for rows in store.batches(connection, kind, span, BATCH):
                held.append(_batch(arrow, schema, rows))
                written.rows += len(rows)
                if len(held) == GROUP:
                    writer.write_table(arrow.Table.from_batches(held))
                    held.clear()
                written.bytes = file.tell() if file.seekable() else 0
                told(written)
            if held:
                writer.write_table(arrow.Table.from_batches(held))
    written.bytes = file.tell() if file.seekable() else 0
    return written


def _pyarrow() -> tuple[Any, Any]:
    try:
        pa: Any = import_module("pyarrow")  # an extra: most never need it
        pq: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise BadParameters(
            "Parquet needs pyarrow: pip install 'pyarrow>=18', or take --format csv"
        ) from None
    # What a batch used goes back at once; a pool that keeps it would grow by what is in flight.
    pa.set_memory_pool(pa.system_memory_pool())
    return pa, pq


def _type(arrow: Any, name: str) -> Any:
    known = {
        "timestamptz": arrow.timestamp("us", tz="UTC"),
        "int4": arrow.int32(),
        "int8": arrow.int64(),
        "float8": arrow.float64(),
        "bool": arrow.bool_(),
        "numeric": arrow.decimal128(38, 18),
    }
    return known.get(name, arrow.string())


def _batch(arrow: Any, schema: Any, rows: Sequence[Any]) -> Any:
    columns = [
        arrow.array([_value(row[n]) for row in rows], type=field.type)
        for n, field in enumerate(schema)
    ]
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _value(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
