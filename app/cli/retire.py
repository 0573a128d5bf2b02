"""The `retire` command: end a schedule that the code no longer declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import connections, terminal
from app.core.enums import COLLECTION_TASK
from app.core.errors import WrongState
from app.health import keys
from app.ledger import edit
from app.queue import enqueue
from app.store.schedules import heartbeats, schedule_edits
from workers import registry

if TYPE_CHECKING:
    from app.cli.connections import CommandContext

app = typer.Typer()


@app.command()
def retire(
    job: Annotated[str, typer.Argument(help="The schedule's name, as `doctor` shows it.")],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """End the schedule of a job that was removed from the code. Its past ticks are still verified.

    Its queued runs are superseded, and health reports it no longer. A worker that still declares
    it revives it on start, so stop the old workers first.

    Example: `rollcall retire old_job`
    """
    if job.startswith(f"{COLLECTION_TASK}:"):
        raise typer.BadParameter("a collection's schedule is retired by its organisation")
    if job in {schedule.key for schedule in registry.declared_schedules(connections.load_config())}:
        reason = "is declared by this code, and the next worker to start would revive it"
        raise WrongState(f"{job} {reason}; to stop it: `rollcall pause {job}`")
    connections.with_servers(lambda context: _retire(context, job))
    terminal.print_done({"job": job, "retired": True}, f"{job} is retired", as_json=as_json)


async def _retire(context: CommandContext, job: str) -> None:
    now = await heartbeats.database_now(context.pool)
    async with context.pool.acquire() as connection, connection.transaction():
        queued = await edit.retire_in(connection, job, now)
        await schedule_edits.record_edit(
            connection, job, now, terminal.current_user(), ("retired", None, None)
        )
    with connections.redis_may_be_away():
        await enqueue.enqueue_runs(context.pool, context.redis, queued)
        await keys.delete_job(context.redis, job)
