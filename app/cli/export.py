"""The `export` command: write stored rows to a file."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import connections, streams, terminal
from app.core.printable import counted
from app.maintenance import export as row_export
from app.store import servers
from app.store.reports import exports
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.maintenance.export import ExportProgress, ExportProgressCallback
    from app.store.db import Pool
    from app.store.reports.exports import ExportRange

app = typer.Typer()


class What(StrEnum):
    """The kinds of rows that can be exported."""

    ODDS = "odds"
    CHANGES = "changes"
    ARTICLES = "articles"
    STORIES = "stories"
    ITEMS = "items"
    RUNS = "runs"


class Format(StrEnum):
    """The formats of an export file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@app.command()
def export(
    what: Annotated[What, typer.Argument(help="What to export.")],
    to: Annotated[str, typer.Argument(help="The file, or - for the standard output.")] = "-",
    *,
    as_: Annotated[Format, typer.Option("--format", help="The format of the file.")] = Format.CSV,
    since: Annotated[
        str | None, typer.Option(help="From this instant on, or an age such as `1d`.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant.")] = None,
    as_json: terminal.JSON = False,
) -> None:
    """Stream rows to a file; memory use does not depend on their number.

    The file appears once it is complete. With `--json`, print what was written as JSON.

    Examples: `rollcall export changes changes.csv --since 7d`,
    `rollcall export articles articles.parquet --format parquet`,
    `rollcall export runs - --format jsonl | head`
    """

    async def span(pool: Pool) -> ExportRange:
        now = await heartbeats.database_now(pool)
        return exports.ExportRange(*terminal.parse_range(since, until, now))

    if not Path(to).name and to != "-":
        raise typer.BadParameter(f"{to!r} is not a file")
    if to == "-" and as_json:
        raise typer.BadParameter("--json describes a file: name one")
    range_ = connections.with_pool(span)
    written = _write(what.value, range_, as_, to)
    if as_json:
        terminal.print_json({"file": to, "rows": written.rows, "bytes": written.bytes})
    else:
        sys.stderr.write(f"{counted(written.rows, 'row')}, {written.bytes / 1e6:,.1f} MB\n")


@contextmanager
def _progress(what: str) -> Generator[ExportProgressCallback]:
    from rich import progress as bars  # noqa: PLC0415 - not imported for `--help`

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=terminal.console(stderr=True)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda counts: progress.update(task, completed=counts.bytes)


def _write(what: str, span: ExportRange, as_: Format, to: str) -> ExportProgress:
    dsn = servers.server_urls(connections.load_config()).database
    kind = exports.EXPORT_KINDS[what]

    async def write() -> ExportProgress:
        connection = await exports.connect(dsn)
        try:
            with _progress(what) as report:
                async with row_export.atomic_file(to) as file:
                    if as_ is Format.PARQUET:
                        return await row_export.write_parquet(connection, kind, span, file, report)
                    lines = as_ is Format.JSONL
                    return await row_export.write_text(
                        connection, kind, span, file, report, lines=lines
                    )
        finally:
            await connection.close(timeout=5)

    try:
        return connections.run_async(write)
    except BrokenPipeError:  # the reader closed the pipe
        streams.discard(sys.stdout)
        raise typer.Exit(0) from None
