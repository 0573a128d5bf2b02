"""The `ticks` command: what became of the past ticks of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.core.enums import TickOutcome, TickReason
from app.core.errors import UnknownJob
from app.store.reports import tick_listing
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.db import Pool

app = typer.Typer()

COLUMNS = ("scheduled_for", "until", "count", "outcome", "reason", "run")


@app.command()
def ticks(  # noqa: PLR0913 - the filters of a command are its arguments
    job: Annotated[str, typer.Argument(help="The job's name, as `jobs` prints it.")],
    *,
    since: Annotated[
        str | None, typer.Option(help="From this instant on, or an age such as `12h`.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant, or an age.")] = None,
    outcome: Annotated[TickOutcome | None, typer.Option(help="Only with this outcome.")] = None,
    reason: Annotated[TickReason | None, typer.Option(help="Only with this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of rows.")] = 50,
    as_json: terminal.JSON = False,
) -> None:
    """List the ticks of a job with their outcomes, the newest first.

    Consecutive ticks that were skipped or missed for the same reason may be one row.

    Examples: `rollcall ticks poll_news --since 12h --outcome missed`,
    `rollcall ticks source:books --reason paused --json`
    """
    if outcome is TickOutcome.RAN and reason is not None:
        raise typer.BadParameter("a tick that ran has no reason", param_hint="--reason")

    async def read(pool: Pool) -> list[dict[str, Any]]:
        jobs = await tick_listing.jobs(pool, job=job)
        if not jobs:
            raise UnknownJob(f"there is no schedule {job!r}; see `jobs`")
        now = await heartbeats.database_now(pool)
        begin, end = terminal.parse_range(since, until, now)
        return await tick_listing.ticks(
            pool, jobs, tick_listing.TickFilter(begin, end, outcome, reason), limit
        )

    rows = [
        {name: value for name, value in row.items() if name != "schedule_id"}
        for row in connections.with_pool(read)
    ]
    if as_json:
        terminal.print_json(rows)
        return
    shown = (row | {"run": str(row["run_id"])[:8] if row["run_id"] else None} for row in rows)
    terminal.print_table(shown, COLUMNS)
