"""Exports rows to CSV, JSON lines or Parquet: streamed, in constant memory, replaced atomically."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from app.core.errors import BadParameters, FileUnusable, is_of_a_file
from app.store.db import Connection
from app.store.reports import exports
from app.store.reports.exports import ExportKind, ExportRange

BATCH_ROWS = 20_000  # rows per Parquet record batch
ROW_GROUP_BATCHES = 5  # record batches per row group


@dataclass(slots=True)
class ExportProgress:
    """What has been written so far. For CSV and JSON lines `rows` is 0 until the end."""

    rows: int = 0
    bytes: int = 0


ExportProgressCallback = Callable[[ExportProgress], None]


@asynccontextmanager
async def atomic_file(target: str) -> AsyncGenerator[IO[bytes]]:
    """Open a temporary file that is renamed to `target` when the block succeeds; `-` is stdout.

    A target that is there and no regular file, such as a pipe or a device, is written to itself.
    Raises FileUnusable.
    """
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        is_device = await asyncio.to_thread(_is_device, path)
        with (path if is_device else part).open("wb") as file:
            yield file
            file.flush()
            if not is_device:
                await asyncio.to_thread(os.fsync, file.fileno())
        if not is_device:
            part.replace(path)
    except OSError as error:
        if not is_of_a_file(error):
            raise
        raise FileUnusable.from_error(error, target) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _is_device(path: Path) -> bool:
    """Whether the path is there and no regular file."""
    return path.exists() and not path.is_file()


async def write_text(
    connection: Connection,
    kind: ExportKind,
    span: ExportRange,
    file: IO[bytes],
    on_progress: ExportProgressCallback,
    *,
    lines: bool,
) -> ExportProgress:
    """Write CSV, or with `lines` one JSON object per line, as COPY delivers it."""
    written = ExportProgress()

    async def sink(data: bytes) -> None:
        file.write(data)
        written.bytes += len(data)
        on_progress(written)

    copy = exports.copy_jsonl if lines else exports.copy_csv
    written.rows = await copy(connection, kind, span, sink)
    return written


async def write_parquet(
    connection: Connection,
    kind: ExportKind,
    span: ExportRange,
    file: IO[bytes],
    on_progress: ExportProgressCallback,
) -> ExportProgress:
    """Write Parquet in batches of BATCH rows. Raises BadParameters if pyarrow is not installed."""
    arrow, pq = load_pyarrow()
    written = ExportProgress()
    async with connection.transaction(readonly=True):
        columns = await exports.columns(connection, kind)
        schema = arrow.schema([(name, _type(arrow, type_name)) for name, type_name in columns])
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            buffered: list[Any] = []
            async for rows in exports.batches(connection, kind, span, BATCH_ROWS):
                buffered.append(_batch(arrow, schema, rows))
                written.rows += len(rows)
                if len(buffered) == ROW_GROUP_BATCHES:
                    writer.write_table(arrow.Table.from_batches(buffered))
                    buffered.clear()
                written.bytes = file.tell() if file.seekable() else 0
                on_progress(written)
            if buffered:
                writer.write_table(arrow.Table.from_batches(buffered))
    written.bytes = file.tell() if file.seekable() else 0
    return written


def load_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet. Raises BadParameters if they are not installed."""
    try:
        pa: Any = import_module("pyarrow")  # an optional extra
        pq: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise BadParameters(
            "Parquet needs pyarrow: pip install 'pyarrow>=18', or use --format csv"
        ) from None
    # The system pool frees a batch at once; the default pool would keep the memory.
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
        arrow.array(
            [str(row[n]) if isinstance(row[n], UUID) else row[n] for row in rows], type=field.type
        )
        for n, field in enumerate(schema)
    ]
    return arrow.RecordBatch.from_arrays(columns, schema=schema)
