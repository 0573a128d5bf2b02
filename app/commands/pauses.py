"""The commands that let a schedule rest and go on: `pause`, `resume`."""

import sys
from typing import Annotated

import typer

from app import ledger, terminal
from app.store import beats, db

app = typer.Typer()


@app.command()
def pause(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    note: Annotated[str, typer.Option(help="Why; health and `why` show it.")],
) -> None:
    """Let a schedule rest. Its ticks are recorded as skipped (paused) until it is resumed.

    Example: `python -m app pause scrape_all_platforms --note "the site asked us to wait"`
    """

    async def rest(pool: db.Pool) -> None:
        now = await beats.database_now(pool)
        await ledger.pause(pool, job, now, by=terminal.user(), note=note)

    terminal.with_pool(rest)
    sys.stdout.write(f"{job} is paused: {note}\n")


@app.command()
def resume(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
) -> None:
    """Let a paused schedule go on; every tick of the pause is recorded first.

    Example: `python -m app resume scrape_all_platforms`
    """

    async def go_on(pool: db.Pool) -> None:
        await ledger.resume(pool, job, await beats.database_now(pool))

    terminal.with_pool(go_on)
    sys.stdout.write(f"{job} goes on\n")
