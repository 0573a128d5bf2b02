"""The `pause` and `resume` commands: stop a schedule and start it again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import connections, run_requests, terminal
from app.health import publish
from app.ledger import manual_runs
from app.queue import enqueue
from app.store.schedules import heartbeats, schedule_rows

if TYPE_CHECKING:
    from app.cli.connections import CommandContext
    from app.store.runs.run_rows import QueuedRun

app = typer.Typer()


@app.command()
def pause(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    note: Annotated[str, typer.Option(help="Why; health and `why` show it.")],
    until: Annotated[
        str | None, typer.Option(help="Resume by itself at this instant; UTC if bare.")
    ] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Pause a schedule. Its ticks are recorded as `skipped(paused)` until it is resumed.

    Examples: `rollcall pause scrape_all_platforms --note "the site asked us to wait"`,
    `rollcall pause poll_news --note "no budget left" --until 2026-12-01`
    """
    note = terminal.parse_note(note)
    end = None if until is None else terminal.parse_instant(until)

    async def apply(context: CommandContext) -> None:
        now = await heartbeats.database_now(context.pool)
        if end is not None and end <= now:
            raise typer.BadParameter(f"{until} is in the past", param_hint="--until")
        act = manual_runs.Act(run_requests.author(job), now, note)
        await _publish(context, job, await run_requests.steering_of(context).pause(job, act, end))

    connections.with_servers(apply)
    done = {"job": job, "paused": True, "note": note, "until": end}
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

    async def apply(context: CommandContext) -> bool:
        now = await heartbeats.database_now(context.pool)
        state = await schedule_rows.one(context.pool, job)
        if state is not None and state.paused_at is None:
            return False
        act = manual_runs.Act(run_requests.author(job), now)
        await _publish(context, job, await run_requests.steering_of(context).resume(job, act))
        return True

    resumed = connections.with_servers(apply)
    said = f"{job} is resumed" if resumed else f"{job} was not paused; nothing changed"
    terminal.print_done({"job": job, "paused": False, "resumed": resumed}, said, as_json=as_json)


async def _publish(context: CommandContext, job: str, queued: list[QueuedRun]) -> None:
    """Enqueue what was due, and show the change in health at once, also if no worker lives."""
    with contextlib.suppress(*connections.REDIS_AWAY):
        await enqueue.enqueue_runs(context.pool, context.redis, queued)
        await publish.publish_job(context.pool, context.redis, job)
