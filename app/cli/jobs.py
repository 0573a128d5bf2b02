"""The `jobs` command: list the schedules."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.core.collection_keys import is_collection
from app.health import judge, keys, rules
from app.ledger import upcoming
from app.store.schedules import heartbeats, schedule_rows

if TYPE_CHECKING:
    from app.cli.connections import CommandContext
    from app.health.facts import JobFacts
    from app.health.judge import HealthRules
    from app.store.schedules.schedule_rows import ScheduleState

app = typer.Typer()

COLUMNS = ("job", "due", "health", "next", "last_run", "last_status", "paused")


@app.command()
def jobs(
    *,
    collections: Annotated[
        bool, typer.Option("--collections", help="Include the schedules of organisations.")
    ] = False,
    as_json: terminal.JSON = False,
) -> None:
    """List the schedules: when each is due, its health, and its next tick.

    Examples: `rollcall jobs`, `rollcall jobs --json`
    """

    async def read(context: CommandContext) -> list[dict[str, Any]]:
        now = await heartbeats.database_now(context.pool)
        facts = await keys.read_jobs(context.redis)
        by = rules.rules_from_config(context.config)
        states = await schedule_rows.all_of(context.pool)
        return [
            _as_json(state, facts.get(state.key), now, by)
            for state in states
            if collections or not is_collection(state.key)
        ]

    rows = connections.with_servers(read)
    terminal.print_rows(rows, COLUMNS, as_json=as_json)


def _as_json(
    state: ScheduleState, facts: JobFacts | None, now: datetime, rules: HealthRules
) -> dict[str, Any]:
    verdict = None if facts is None else judge.judge(facts, now, rules)
    paused = f"{state.paused_by}: {state.paused_note}" if state.paused_at else None
    return {
        "job": state.key,
        "task": state.job,
        "due": upcoming.describe(state),
        "enabled": state.enabled,
        "health": verdict and verdict.text,
        "status": verdict and verdict.status,
        "reason": verdict and verdict.reason,
        "sources": verdict and verdict.sources,
        "next": upcoming.next_run(state),
        "frontier": state.evaluated_through,
        "last_run": facts and facts.last_run,
        "last_status": facts and facts.last_status,
        "last_success": facts and facts.last_success,
        "paused_at": state.paused_at,
        "paused": paused,
        "version": state.version,
    }
