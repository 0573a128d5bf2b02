"""The `status` command: a summary of workers, queue and jobs."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from app.cli import connections, terminal
from app.health import judge, keys, rules
from app.store.runs import backlog, source_usage
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.cli.connections import CommandContext

app = typer.Typer()


@app.command()
def status(*, as_json: terminal.JSON = False) -> None:
    """Summarise workers, queue and jobs. Exit code 1 if a job is at fault or no worker is alive.

    Examples: `rollcall status`, `rollcall status --json`
    """
    summary = connections.with_servers(_read)
    if as_json:
        terminal.print_json(summary)
    else:
        _show(summary)
    if not summary["well"]:
        raise typer.Exit(1)


async def _read(context: CommandContext) -> dict[str, Any]:
    now = await heartbeats.database_now(context.pool)
    workers = await keys.read_workers(context.redis)
    jobs = await keys.read_jobs(context.redis)
    by = rules.rules_from_config(context.config)
    verdicts = {key: judge.judge(facts, now, by) for key, facts in jobs.items()}
    late, since = await backlog.scheduling_lag(context.pool, now)
    open_runs = await backlog.open_runs(context.pool, now)
    used = await source_usage.used(context.pool, now)
    budgets = context.config.monthly_requests
    return {
        "well": bool(workers) and not any(v.at_fault for v in verdicts.values()),
        "at": now,
        "workers": [
            {"worker": name, "running": facts.running, "seen_at": facts.seen_at}
            for name, facts in workers.items()
        ],
        "queued": open_runs["queued"],
        "running": open_runs["running"],
        "oldest_queued_at": open_runs["oldest"],
        "budgets": [
            {"source": source, "used": used.get(source, 0), "requests": allowed}
            for source, allowed in budgets.items()
        ],
        "schedules_late": late,
        "late_since": since,
        "jobs": [
            {
                "job": key,
                "status": verdict.status.value,
                "reason": verdict.reason,
                "sources": verdict.sources,
                "health": verdict.text,
                "last_run": jobs[key].last_run,
                "last_status": jobs[key].last_status,
                "next": jobs[key].upcoming,
                "last_error": jobs[key].last_error,
            }
            for key, verdict in verdicts.items()
        ],
    }


def _show(summary: dict[str, Any]) -> None:
    workers = summary["workers"]
    sys.stdout.write(
        f"{'healthy' if summary['well'] else 'UNHEALTHY'}"
        f" at {terminal.format_value(summary['at'])} UTC\n"
        f"workers: {len(workers)}   running: {summary['running']}   queued: {summary['queued']}"
        f"{_since(summary['oldest_queued_at'])}   schedules late: {summary['schedules_late']}"
        f"{_since(summary['late_since'])}\n"
    )
    for one in summary["budgets"]:
        terminal.write_line(
            f"{one['source']}: {one['used']:,} of {one['requests']:,} requests this month"
        )
    columns = ("job", "health", "last_run", "last_status", "next", "last_error")
    terminal.print_table(summary["jobs"], columns)


def _since(at: datetime | None) -> str:
    return "" if at is None else f" (since {terminal.format_value(at)})"
