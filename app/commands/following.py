"""A run watched until it ends, or until there is nobody left to end it."""

import asyncio
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.table import Table

from app.health import keys
from app.store import runs
from app.terminal import Reach
from app.words import OPEN_STATUSES, RunStatus

LOOK_EVERY = 0.25  # seconds
NOBODY_FOR = 5.0  # seconds without any worker until nobody is waited for any more
EXIT = {RunStatus.SUCCESS: 0, RunStatus.PARTIAL_FAILURE: 1}
NUMBERS = ("pages", "records", "inserted", "changed", "rejected")


def exit_code(status: str | None) -> int:
    """0 for a success, 1 for part of one, 2 for anything else."""
    return 2 if status is None else EXIT.get(RunStatus(status), 2)


async def to_end(reach: Reach, run_id: UUID) -> dict[str, Any]:
    """Show the run's progress until it has ended; returns it as it stands then.

    It is still open if no worker has been alive for five seconds.
    """
    clock = asyncio.get_running_loop().time
    last_seen = clock()
    console = Console(stderr=True)
    with ExitStack() as stack:
        if not console.is_terminal:
            stack.callback(console.print)  # the table's last line has no end there
        live = stack.enter_context(Live(console=console, auto_refresh=False))
        while True:
            row = await runs.look(reach.pool, run_id) or {"status": RunStatus.LOST}
            sources = await runs.look_sources(reach.pool, run_id)
            live.update(_progress(row, sources), refresh=True)
            if row["status"] not in OPEN_STATUSES:
                return row
            if await keys.read_workers(reach.redis):
                last_seen = clock()
            elif clock() - last_seen >= NOBODY_FOR:
                return row
            await asyncio.sleep(LOOK_EVERY)


def _progress(row: dict[str, Any], sources: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{row.get('job', 'run')}: {row['status']}", title_justify="left")
    for name in ("source", "status"):
        table.add_column(name, no_wrap=True)
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("error")
    for source in sources:
        numbers = (str(source[name]) for name in NUMBERS)
        table.add_row(source["source"], source["status"], *numbers, source["error_message"] or "")
    return table
