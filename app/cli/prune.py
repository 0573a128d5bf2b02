"""The `prune` command: delete what is past its retention."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.maintenance import retention
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.db import Pool

app = typer.Typer()

_COLUMN = {True: "would_go", False: "gone"}  # by whether it is a dry run


@app.command()
def prune(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the rows, delete nothing.")
    ] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Delete what is past its retention now, not at night. `verify` still counts it.

    Examples: `rollcall prune --dry-run`, `rollcall prune`
    """
    config = connections.load_config()

    async def prune_rows(pool: Pool) -> list[dict[str, Any]]:
        step = retention.count_expired if dry_run else retention.delete_expired
        results = step(pool, config, await heartbeats.database_now(pool))
        return [
            {
                "kind": result.kind,
                "setting": result.setting,
                "days": result.days,
                _COLUMN[dry_run]: result.rows,
            }
            async for result in results
        ]

    try:
        rows = connections.with_pool(prune_rows)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None  # each batch was committed on its own
    terminal.print_rows(rows, as_json=as_json)
