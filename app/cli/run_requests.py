"""Manual runs: insert the run, enqueue it, and optionally follow it to its end."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import typer

from app.cli import connections, follow, terminal
from app.core.enums import OPEN_STATUSES
from app.health import keys
from app.ledger import manual_runs
from app.orgs import steering, tokens
from app.queue import enqueue
from app.store.schedules import heartbeats
from workers import schedule_settings

if TYPE_CHECKING:
    from app.cli.connections import CommandContext
    from app.ledger.manual_runs import WantedRun
    from app.orgs.steering import Steering

# The schedule's name, and the arq function that runs it.
JobAndTask = tuple[str, str]


def trigger_run(wanted: WantedRun, *, wait: bool, as_json: bool) -> None:
    """Queue a run by hand and print its id.

    With `wait`, follow the run and raise typer.Exit with the exit code of its status.
    """

    async def queue_and_report(context: CommandContext) -> None:
        run_id = await queue_run(context, wanted)
        job = (wanted.job, wanted.task)
        await report_queued_run(context, run_id, job, wait=wait, as_json=as_json)

    connections.with_servers(queue_and_report)


async def report_queued_run(
    context: CommandContext, run_id: UUID, job: JobAndTask, *, wait: bool, as_json: bool
) -> None:
    """Print which run was queued, as JSON with `as_json`.

    With `wait`, follow the run and raise typer.Exit with the exit code of its status.
    """
    if not as_json:
        sys.stdout.write(f"{run_id}\n")
        sys.stdout.flush()
    if not wait:
        with suppress(*connections.REDIS_AWAY):  # which was said when the run was queued
            if not await keys.read_workers(context.redis):
                sys.stderr.write("No worker is alive: the run stays queued until one starts.\n")
        if as_json:
            queued = {"execution_id": run_id, "job": job[0], "task": job[1], "status": "queued"}
            terminal.print_json(queued)
        return
    row = await follow.follow_run(context, run_id)
    if row["status"] in OPEN_STATUSES:
        sys.stderr.write("No worker is alive: stopped waiting. The run stays queued.\n")
    if as_json:
        terminal.print_json(row)
    raise typer.Exit(follow.exit_code(row["status"]))


def steering_of(context: CommandContext) -> Steering:
    """What acts on jobs and runs."""
    return steering.Steering(
        context.pool, context.config, schedule_settings.default_policies(context.config)
    )


def author(job: str) -> str:
    """Who acts on the job; an organisation reads of its collection that it was the operator."""
    user = terminal.current_user()
    return user if steering.owner_of(job) is None else f"{tokens.OPERATOR}/{user}"


async def queue_run(context: CommandContext, wanted: WantedRun) -> UUID:
    """Insert a run by hand and enqueue it; returns its id.

    Raises typer.BadParameter if it is to start in the past, and what `Steering.run` raises.
    """
    now = await heartbeats.database_now(context.pool)
    if wanted.at is not None and wanted.at <= now:
        raise typer.BadParameter(f"{wanted.at.isoformat()} is in the past", param_hint="--at")
    queued = await steering_of(context).run(wanted, manual_runs.Act(author(wanted.job), now))
    with connections.redis_may_be_away():
        await enqueue.enqueue_runs(context.pool, context.redis, [queued], wanted.at)
    return queued.run_id
