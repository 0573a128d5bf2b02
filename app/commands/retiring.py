"""The `retire` command: end a schedule that the code no longer declares."""

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
    job: Annotated[str, typer.Argument(help="The schedule's name, as `doctor` shows it.")],
) -> None:
    """End the schedule of a job that was removed from the code. Its past ticks are still verified.

    Its queued runs are superseded, and health reports it no longer. A worker that still declares
    it revives it on start, so stop the old workers first.

    Example: `python -m app retire old_job`
    """
    if job.startswith(f"{COLLECTION}:"):
        raise typer.BadParameter("a collection's schedule is retired by its organisation")
    if job in {schedule.key for schedule in catalogue.declared(terminal.config())}:
        reason = "is declared by this code, and the next worker to start would revive it"
        raise typer.BadParameter(f"{job} {reason}; to stop it: `python -m app pause {job}`")
    terminal.with_servers(lambda context: _retire(context, job))
    sys.stdout.write(f"{job} is retired\n")


async def _retire(context: Reach, job: str) -> None:
    now = await beats.database_now(context.pool)
    async with context.pool.acquire() as connection, connection.transaction():
        queued = await ledger.retire_in(connection, job, now)
        await controls.note(connection, job, now, terminal.user(), ("retired", None, None))
    await telling.tell(context.pool, context.redis, queued)
    await keys.forget_job(context.redis, job)
