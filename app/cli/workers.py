"""The `workers` command: the live workers and what they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from app.cli import connections, terminal
from app.health import keys
from app.store.runs import run_pages

if TYPE_CHECKING:
    from app.cli.connections import CommandContext

app = typer.Typer()

COLUMNS = ("worker", "version", "schema", "started_at", "seen_at", "running", "memory_mb", "runs")


@app.command()
def workers(*, as_json: terminal.JSON = False) -> None:
    """List the live workers with what they run. Exit code 1 if none is alive.

    Example: `rollcall workers`
    """
    rows = connections.with_servers(_read)
    if as_json:
        terminal.print_json(rows)
    else:
        shown = (row | {"runs": ", ".join(str(run)[:8] for run in row["runs"])} for row in rows)
        terminal.print_table(shown, COLUMNS)
    if not rows:
        raise typer.Exit(1)


async def _read(context: CommandContext) -> list[dict[str, Any]]:
    live = await keys.read_workers(context.redis)
    running = await run_pages.running(context.pool)
    return [
        {
            "worker": name,
            "host": facts.host,
            "version": facts.version,
            "schema": facts.schema,
            "zone_data": facts.zone_data,
            "clock_error": facts.clock_error,
            "started_at": facts.started_at,
            "seen_at": facts.seen_at,
            "running": facts.running,
            "memory_mb": None if facts.memory is None else round(facts.memory / 1e6, 1),
            "faulty_jobs": facts.faulty_jobs,
            "runs": [run["execution_id"] for run in running.get(name, ())],
        }
        for name, facts in sorted(live.items())
    ]
