"""A run asked for by hand: written down first, then told to Redis, then watched if wanted."""

import sys
from typing import Any
from uuid import UUID, uuid4

import typer

from app import terminal
from app.commands import following
from app.health import keys
from app.queue import enqueue
from app.store import beats, runs
from app.store.runs import Wanted
from app.terminal import Reach
from app.words import OPEN_STATUSES


def ask(job: str, params: dict[str, Any], by: str, *, wait: bool, as_json: bool) -> None:
    """Queue a manual run of the job, and say which it is. With `wait`, exit as it ended."""
    terminal.with_servers(lambda reach: _ask(reach, (job, params, by), wait, as_json))


async def _ask(
    reach: Reach, wish: tuple[str, dict[str, Any], str], wait: bool, plain: bool
) -> None:
    await say(reach, await queue(reach, *wish), wish[0], wait=wait, plain=plain)


async def say(reach: Reach, run_id: UUID, job: str, *, wait: bool, plain: bool) -> None:
    """Say which run was queued. With `wait`, show it to its end and exit as it ended."""
    if not plain:
        sys.stdout.write(f"{run_id}\n")
        sys.stdout.flush()
    if not wait:
        if not await keys.read_workers(reach.redis):
            sys.stderr.write("No worker is alive: the run waits in the queue until one is.\n")
        if plain:
            terminal.print_json({"execution_id": run_id, "job": job, "status": "queued"})
        return
    row = await following.to_end(reach, run_id)
    if row["status"] in OPEN_STATUSES:
        sys.stderr.write("No worker is alive, so nobody waits. The run stays queued.\n")
    if plain:
        terminal.print_json(row)
    raise typer.Exit(following.exit_code(row["status"]))


async def queue(reach: Reach, job: str, params: dict[str, Any], by: str) -> UUID:
    """Write a manual run down and tell Redis of it; returns its id."""
    config = reach.config
    run_id = uuid4()
    wanted = Wanted(run_id, job, params, by[:200], config.max_attempts, config.job_timeout_seconds)
    await runs.request(reach.pool, wanted, await beats.database_now(reach.pool))
    await enqueue(reach.redis, job, str(run_id), job_id=f"run:{run_id}:1")
    return run_id
