"""Follow a run's progress in the terminal until it ends or no worker is alive."""

import asyncio
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli import terminal
from app.cli.connections import CommandContext
from app.core.enums import OPEN_STATUSES, RunStatus
from app.health import keys
from app.store.runs import listing

_POLL_SECONDS = 0.25  # seconds
_NO_WORKER_SECONDS = 5.0  # give up waiting after so long without a live worker
_COUNTS = ("pages", "records", "inserted", "changed", "rejected")


def exit_code(status: str | None) -> int:
    """Return 0 for `success`, 1 for a run that ended otherwise, 2 for one that has not ended."""
    if status is None or status in OPEN_STATUSES:
        return 2
    return 0 if status == RunStatus.SUCCESS else 1


async def follow_run(context: CommandContext, run_id: UUID) -> dict[str, Any]:
    """Show the run's progress until it ends; returns its row.

    The run is still open if no worker was alive for five seconds.
    """
    clock = asyncio.get_running_loop().time
    last_seen = clock()
    console = terminal.console(stderr=True)
    with ExitStack() as stack:
        if not console.is_terminal:
            stack.callback(console.print)  # Live omits the last newline there
        live = stack.enter_context(Live(console=console, auto_refresh=False))
        while True:
            row = await listing.run(context.pool, run_id) or {"status": RunStatus.LOST}
            sources = await listing.sources(context.pool, run_id)
            live.update(progress(row, sources), refresh=True)
            if row["status"] not in OPEN_STATUSES:
                return row
            if await keys.read_workers(context.redis):
                last_seen = clock()
            elif clock() - last_seen >= _NO_WORKER_SECONDS:
                return row
            await asyncio.sleep(_POLL_SECONDS)


def progress(row: dict[str, Any], sources: list[dict[str, Any]]) -> RenderableType:
    """The status, the counts of a job without sources, the error, and a row for each source."""
    line = f"{row.get('job', 'run')}: {row['status']}"
    if not sources and row.get("stats"):
        line += ": " + ", ".join(f"{name} {value}" for name, value in row["stats"].items())
    parts: list[RenderableType] = [Text(terminal.clean(line), style="italic")]
    if row.get("error_message"):
        parts.append(Text(terminal.clean(f"{row['error_type']}: {row['error_message']}"), "red"))
    if sources:
        parts.append(_table(sources))
    return Group(*parts)


def _table(sources: list[dict[str, Any]]) -> Table:
    table = Table()
    for name in ("source", "status"):
        table.add_column(name, no_wrap=True)
    for name in _COUNTS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("error")
    for source in sources:
        counts = (str(source[name]) for name in _COUNTS)
        texts = (source["source"], source["status"], *counts, source["error_message"] or "")
        table.add_row(*map(terminal.clean, texts))
    return table
