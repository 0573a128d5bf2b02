"""The command that ends a schedule which the code declares no more: `retire`."""

import sys
from typing import Annotated

import typer

from app import ledger, telling, terminal
from app.health import keys
from app.store import beats, controls
from app.terminal import Reach
from app.words import COLLECTION
from workers import catalogue

app = typer.Typer()


@app.command()
def retire(
    job: Annotated[str, typer.Argument(help="The schedule's name, as `doctor` says it.")],
) -> None:
    """End the schedule of a job that has left the code. Its past stays, and is still verified.

    What it has announced is superseded, and health speaks of it no more. A worker that declares it
    again revives it when it starts, so stop the old workers first.

    Example: `python -m app retire old_job`
    """
    if job.startswith(f"{COLLECTION}:"):
        raise typer.BadParameter("a collection's schedule is ended by its organisation")
    if job in {one.key for one in catalogue.declared(terminal.config())}:
        told = "is declared by this code, and the next worker to start would revive it"
        raise typer.BadParameter(f"{job} {told}; to let it rest: `python -m app pause {job}`")
    terminal.with_servers(lambda reach: _retire(reach, job))
    sys.stdout.write(f"{job} is retired\n")


async def _retire(reach: Reach, job: str) -> None:
    now = await beats.database_now(reach.pool)
    async with reach.pool.acquire() as connection, connection.transaction():
        queued = await ledger.retire_in(connection, job, now)
        await controls.note(connection, job, now, terminal.user(), ("retired", None, None))
    await telling.tell(reach.pool, reach.redis, queued)
    await keys.forget_job(reach.redis, job)
