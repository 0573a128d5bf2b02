"""The command that forgets: `prune`."""

import asyncio
from typing import Annotated, Any

import typer

from app import retention, terminal
from app.store import beats
from app.store.db import Pool

app = typer.Typer()

WORDS = {True: "would go", False: "gone"}


@app.command()
def prune(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Forget what the settings let go, now instead of at night. `verify` still counts it.

    Examples: `python -m app prune --dry-run`, `python -m app prune`
    """
    config = terminal.config()

    async def forget(pool: Pool) -> list[dict[str, Any]]:
        step = retention.would_forget if dry_run else retention.forget
        told = step(pool, config, await beats.database_now(pool))
        return [
            {
                "kind": one.kind,
                "setting": one.setting,
                "days": one.days,
                WORDS[dry_run]: one.rows,
            }
            async for one in told
        ]

    try:
        rows = terminal.with_pool(forget)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None  # each batch stands for itself
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_table(rows, tuple(rows[0]))
