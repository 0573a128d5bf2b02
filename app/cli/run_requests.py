"""Manual runs: insert the run, enqueue it, and optionally follow it to its end."""

import sys
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import typer

from app.cli import follow, terminal
from app.cli.terminal import CommandContext
from app.core.enums import OPEN_STATUSES
from app.health import keys
from app.queue import enqueue
from app.scheduling.policies import Policies
from app.store.runs import run_rows
from app.store.runs.run_rows import QueuedRun, RunRequest
from app.store.schedules import heartbeats, schedule_rows
from workers.schedule_settings import default_policies

# The schedule's name, and the arq function that runs it.
JobAndTask = tuple[str, str]


def trigger_run(
    job: JobAndTask,
    params: dict[str, Any],
    by: str,
    *,
    wait: bool,
    as_json: bool,
    at: datetime | None = None,
) -> None:
    """Queue a manual run of the job and print its id. `at`: when it starts; None is at once.

    With `wait`, follow the run and raise typer.Exit with the exit code of its status.
    """

    async def queue_and_report(context: CommandContext) -> None:
        run_id = await queue_run(context, job[1], params, by, at)
        await report_queued_run(context, run_id, job, wait=wait, as_json=as_json)

    terminal.with_servers(queue_and_report)


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


async def queue_run(
    context: CommandContext, task: str, params: dict[str, Any], by: str, at: datetime | None = None
) -> UUID:
    """Insert a manual run with the policies of its schedule and enqueue it; returns its id.

    Raises typer.BadParameter if `at` is in the past.
    """
    now = await heartbeats.database_now(context.pool)
    if at is not None and at <= now:
        raise typer.BadParameter(f"{at.isoformat()} is in the past", param_hint="--at")
    state = await schedule_rows.one(context.pool, schedule_rows.key_of(task, params))
    policies = (
        default_policies(context.config) if state is None else Policies.from_spec(state.policies)
    )
    run_id = uuid4()
    request = RunRequest(
        run_id,
        task,
        params,
        by[:200],
        policies.max_attempts,
        policies.timeout,
        not_before=at,
    )
    await run_rows.request(context.pool, request, now)
    await enqueue.enqueue_runs(context.pool, context.redis, [QueuedRun(run_id, task)], at)
    return run_id
