"""The `retire` command: end a schedule that the code no longer declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import connections, terminal
from app.core.enums import COLLECTION_TASK, AuditAction, RunStatus
from app.core.errors import WrongState
from app.health import keys
from app.ledger import edit, manual_runs
from app.store import audit
from app.store.runs import listing
from app.store.schedules import heartbeats, schedule_edits
from workers import registry

if TYPE_CHECKING:
    from app.cli.connections import CommandContext
    from app.store.db import Connection

RUNS_AT_ONCE = 500

app = typer.Typer()


@app.command()
def retire(
    job: Annotated[str, typer.Argument(help="The schedule's name, as `doctor` shows it.")],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """End the schedule of a job that was removed from the code. Its past ticks are still verified.

    Its queued runs are cancelled, since no worker would execute them, and health reports it no
    longer. A worker that still declares it revives it on start, so stop the old workers first.

    Example: `rollcall retire old_job`
    """
    if job.startswith(f"{COLLECTION_TASK}:"):
        raise typer.BadParameter("a collection's schedule is retired by its organisation")
    if job in {schedule.key for schedule in registry.declared_schedules(connections.load_config())}:
        reason = "is declared by this code, and the next worker to start would revive it"
        raise WrongState(f"{job} {reason}; to stop it: `rollcall pause {job}`")
    cancelled = connections.with_servers(lambda context: _retire(context, job))
    text = f"{job} is retired"
    if cancelled:
        text += f"; queued runs that are cancelled: {cancelled}"
    done = {"job": job, "retired": True, "cancelled": cancelled}
    terminal.print_done(done, text, as_json=as_json)


async def _retire(context: CommandContext, job: str) -> int:
    """Retire the schedule, and return how many queued runs of it are cancelled."""
    now, by = await heartbeats.database_now(context.pool), terminal.current_user()
    entry = audit.AuditEntry(now, by, AuditAction.CANCEL)
    async with context.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, job, now)
        await schedule_edits.record_edit(connection, job, now, by, ("retired", None, None))
        cancelled = await _cancel_queued(connection, job, entry)
    with connections.redis_may_be_away():
        await keys.delete_job(context.redis, job)
    return cancelled


async def _cancel_queued(connection: Connection, job: str, entry: audit.AuditEntry) -> int:
    queued = listing.RunFilter(job=job, statuses=[RunStatus.QUEUED])
    cancelled = 0
    while runs := await listing.runs(connection, queued, RUNS_AT_ONCE):
        error = f"cancelled by {entry.by}: its job is retired"
        cancelled += len(await manual_runs.cancel_in(connection, runs, entry, error))
    return cancelled
