"""The `pause` and `resume` commands: stop a schedule and start it again."""

from typing import Annotated

import typer

from app.cli import terminal
from app.ledger import edit
from app.store import db
from app.store.schedules import heartbeats

app = typer.Typer()


@app.command()
def pause(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    note: Annotated[str, typer.Option(help="Why; health and `why` show it.")],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Pause a schedule. Its ticks are recorded as `skipped(paused)` until it is resumed.

    Example: `rollcall pause scrape_all_platforms --note "the site asked us to wait"`
    """

    async def apply(pool: db.Pool) -> None:
        now = await heartbeats.database_now(pool)
        await edit.pause(pool, job, now, by=terminal.current_user(), note=note)

    terminal.with_pool(apply)
    done = {"job": job, "paused": True, "note": note}
    terminal.print_done(done, f"{job} is paused: {note}", as_json=as_json)


@app.command()
def resume(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Resume a paused schedule. The ticks of the pause are recorded first.

    Example: `rollcall resume scrape_all_platforms`
    """

    async def apply(pool: db.Pool) -> None:
        await edit.resume(pool, job, await heartbeats.database_now(pool))

    terminal.with_pool(apply)
    terminal.print_done({"job": job, "paused": False}, f"{job} is resumed", as_json=as_json)
