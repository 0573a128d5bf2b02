"""The command that says how it all stands: `status`."""

import sys
from datetime import datetime
from typing import Any

import typer

from app import terminal
from app.health import keys
from app.health.judge import judge
from app.store import beats, listing
from app.terminal import Reach
from app.words import JobStatus

app = typer.Typer()


@app.command()
def status(*, as_json: terminal.JSON = False) -> None:
    """Say in a few lines how it all stands. Exit code 1 if a job is at fault or no worker lives.

    Examples: `python -m app status`, `python -m app status --json`
    """
    found = terminal.with_servers(_ask)
    if as_json:
        terminal.print_json(found)
    else:
        _say(found)
    if not found["well"]:
        raise typer.Exit(1)


async def _ask(reach: Reach) -> dict[str, Any]:
    now = await beats.database_now(reach.pool)
    workers = await keys.read_workers(reach.redis)
    jobs = await keys.read_jobs(reach.redis)
    verdicts = {key: judge(facts, now) for key, facts in jobs.items()}
    late, since = await listing.lag(reach.pool, now)
    faults = (JobStatus.UNHEALTHY, JobStatus.NOT_STARTED)
    open_runs = await listing.open_runs(reach.pool, now)
    return {
        "well": bool(workers) and not any(v.status in faults for v in verdicts.values()),
        "at": now,
        "workers": [
            {"worker": name, "running": facts.running, "seen_at": facts.seen_at}
            for name, facts in workers.items()
        ],
        "queued": open_runs["queued"],
        "running": open_runs["running"],
        "oldest_queued_at": open_runs["oldest"],
        "schedules_late": late,
        "late_since": since,
        "jobs": [
            {
                "schedule": key,
                "status": verdict.status.value,
                "reason": verdict.reason and verdict.reason.value,
                "last_run": jobs[key].last_run,
                "last_status": jobs[key].last_status,
                "next": jobs[key].next_run,
                "last_error": jobs[key].last_error,
            }
            for key, verdict in verdicts.items()
        ],
    }


def _say(found: dict[str, Any]) -> None:
    workers = found["workers"]
    sys.stdout.write(
        f"{'well' if found['well'] else 'NOT WELL'} at {terminal.shown(found['at'])} UTC\n"
        f"workers: {len(workers)}   running: {found['running']}   queued: {found['queued']}"
        f"{_since(found['oldest_queued_at'])}   schedules late: {found['schedules_late']}"
        f"{_since(found['late_since'])}\n"
    )
    columns = ("schedule", "status", "reason", "last_run", "last_status", "next", "last_error")
    terminal.print_table(found["jobs"], columns)


def _since(at: datetime | None) -> str:
    return "" if at is None else f" (since {terminal.shown(at)})"
