"""The `runs`, `run`, `cancel` and `retry` commands."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from app.cli import ansi, connections, known, run_requests, streams, terminal
from app.core.enums import OPEN_STATUSES, RunStatus, Trigger
from app.core.errors import UnknownRun, WrongState
from app.ledger import manual_runs
from app.queue import enqueue
from app.runs import log
from app.store.runs import listing
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.cli.connections import CommandContext
    from app.store.db import Pool
    from app.store.runs.listing import RunFilter

app = typer.Typer()

COLUMNS = (
    "run", "job", "status", "started_at", "seconds", "trigger", "attempt", "scheduled_for",
    "not_before", "error_message",
)  # fmt: skip
DETAILS = (
    "execution_id", "job", "task", "trigger", "requested_by", "status", "attempt", "worker",
    "scheduled_for", "created_at", "not_before", "started_at", "completed_at", "duration_seconds",
    "error_type", "error_message", "params", "stats", "backfill_id",
)  # fmt: skip
SOURCES = (
    "source", "status", "partitions", "pages", "records", "inserted", "changed", "unchanged",
    "rejected", "requests", "retries", "error_message",
)  # fmt: skip
REJECTED = ("source", "partition", "page", "record_id", "reason", "rejected_by")
MAX_REJECTED = 50
DEFAULT_LIMIT = 20  # runs of a list
_POLL_SECONDS = 1.0
_LOG_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)T")
_OVERLAP = timedelta(seconds=10)  # of two polls, for what was being committed at the last one
_MAX_FOLLOWED = 10_000  # ended runs whose state is remembered
_MIN_ID_LENGTH = 6  # characters of a run's id
RunId = Annotated[str, typer.Argument(help="The run's id, or its first characters.")]


@app.command()
def runs(  # noqa: PLR0913 - the filters of a command are its arguments
    *,
    job: Annotated[str | None, typer.Option(help="Only of this job, as `jobs` names it.")] = None,
    status: Annotated[list[RunStatus] | None, typer.Option(help="Only with this status.")] = None,
    trigger: Annotated[Trigger | None, typer.Option(help="Only with this trigger.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From this instant on, or an age such as `2h` or `1d`.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Maximum number of runs; default: 20.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Continue until Ctrl-C.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """List runs, the newest first. With `--follow`, print each when it starts and ends.

    Examples: `rollcall runs --since 2h`,
    `rollcall runs --job poll_news --status failure --status lost --json`,
    `rollcall runs --follow`
    """
    if follow and limit is not None:
        raise typer.BadParameter("--follow has no end; leave --limit out", param_hint="--limit")

    async def show(pool: Pool) -> None:
        now = await heartbeats.database_now(pool)
        begin = None if since is None else terminal.parse_instant_or_age(since, now)
        filter_ = listing.RunFilter(job, status or None, trigger, begin)
        if follow:
            await known.check_job(pool, job)
            await _follow(pool, filter_, now, as_json=as_json)
            return
        rows = await listing.runs(pool, filter_, limit or DEFAULT_LIMIT)
        if not rows:
            await known.check_job(pool, job)
        _list(rows, as_json=as_json)

    try:
        connections.with_pool(show)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _list(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(rows)
    else:
        brief = (
            {**row, "run": str(row["execution_id"])[:8], "seconds": row["duration_seconds"]}
            for row in rows
        )
        terminal.print_table(brief, COLUMNS)


async def _follow(pool: Pool, filter_: RunFilter, since: datetime, *, as_json: bool) -> None:
    printed: dict[UUID, tuple[str, int]] = {}
    last = since
    while not streams.reader_left():
        now = await heartbeats.database_now(pool)
        for row in await listing.changed_since(pool, filter_, last):
            state = (row["status"], row["attempt"])
            if printed.get(row["execution_id"]) != state:
                printed[row["execution_id"]] = state
                _print_line(row, as_json=as_json)
        ended = [run for run, (status, _) in printed.items() if status not in OPEN_STATUSES]
        for run in ended[:-_MAX_FOLLOWED]:
            del printed[run]
        last = max(since, now - _OVERLAP)
        await asyncio.sleep(_POLL_SECONDS)


def _print_line(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(row)
        return
    at = row["completed_at"] or row["started_at"] or row["created_at"]
    error = f"  {row['error_message']}" if row["error_message"] else ""
    terminal.write_line(
        f"{terminal.format_value(at)}  {row['execution_id']}  {row['job']}  {row['trigger']}"
        f"  {row['status']}{error}"
    )


@app.command()
def run(run_id: RunId, *, as_json: terminal.JSON = False) -> None:
    """Show one run: its attempts, sources, rejected records and log.

    Example: `rollcall run 5f0c7f3e`
    """

    async def read(context: CommandContext) -> dict[str, Any]:
        pool = context.pool
        full_id = await _resolve(pool, run_id)
        return (await listing.run(pool, full_id) or {}) | {
            "sources": await listing.sources(pool, full_id),
            "events": await listing.events(pool, full_id),
            "rejected": (
                await listing.rejected(pool, listing.RejectedFilter(run_id=full_id), MAX_REJECTED)
            )[0],
            "log": await _log_lines(context, full_id),
        }

    row = connections.with_servers(read)
    if as_json:
        for record in row["rejected"]:
            record["data"] = record["data"].decode("utf-8", "replace")
        terminal.print_json(row)
        return
    for record in row["rejected"]:
        by = record["execution_id"]
        record["rejected_by"] = None if by == row["execution_id"] else f"run {str(by)[:8]}"
    terminal.print_fields({name: row.get(name) for name in DETAILS})
    sections = (
        ("Sources", row["sources"], SOURCES),
        ("Events", row["events"], ("at", "event", "attempt", "worker", "detail")),
        ("Rejected records", row["rejected"], REJECTED),
    )
    for title, rows, columns in sections:
        if rows:
            sys.stdout.write(f"\n{ansi.styled(title, 'bold')}\n")
            terminal.print_table(rows, columns)
    if row["log"]:
        sys.stdout.write(f"\n{ansi.styled('Log', 'bold')}\n")
    for line in row["log"] or ():
        terminal.write_line(_LOG_TIME.sub(r"\1 ", line))


async def _log_lines(context: CommandContext, run_id: UUID) -> list[str] | None:
    """The run's log; None if Redis does not answer, which keeps it."""
    try:
        return await log.read_lines(context.redis, run_id)
    except connections.REDIS_AWAY:
        return None


@app.command()
def cancel(run_id: RunId, *, as_json: terminal.JSON = False) -> None:
    """Cancel a run that is queued or running. Its worker stops within a third of its lease.

    Example: `rollcall cancel 5f0c7f3e`
    """

    async def end(pool: Pool) -> tuple[UUID, bool]:
        full_id = await _resolve(pool, run_id)
        row = await listing.run(pool, full_id)
        act = manual_runs.Act(terminal.current_user(), await heartbeats.database_now(pool))
        runs = [] if row is None else [row]
        return full_id, bool(await manual_runs.cancel(pool, runs, act))

    full_id, cancelled = connections.with_pool(end)
    if not cancelled:
        raise WrongState(f"run {full_id} has already ended")
    done = {"execution_id": full_id, "status": "cancelled"}
    terminal.print_done(done, f"{full_id} is cancelled", as_json=as_json)


@app.command()
def retry(
    run_id: RunId,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the progress until the run ends.")
    ] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Queue a new run with the parameters of one that has ended, which stays as it is.

    The retry of a collection's run uses its present sources, and counts against its limits.

    Example: `rollcall retry 5f0c7f3e --wait`
    """

    async def again(context: CommandContext) -> None:
        old = await listing.run(context.pool, await _resolve(context.pool, run_id)) or {}
        now = await heartbeats.database_now(context.pool)
        act = manual_runs.Act(run_requests.author(old["job"]), now)
        queued = await run_requests.steering_of(context).retry(old, act)
        with connections.redis_may_be_away():
            await enqueue.enqueue_runs(context.pool, context.redis, [queued])
        job = (old["job"], queued.task)
        await run_requests.report_queued_run(
            context, queued.run_id, job, wait=wait, as_json=as_json
        )

    connections.with_servers(again)


async def _resolve(pool: Pool, prefix: str) -> UUID:
    if len(prefix) < _MIN_ID_LENGTH or not re.fullmatch(r"[0-9a-fA-F-]+", prefix):
        raise typer.BadParameter(
            f"{prefix!r} is not a run's id; give at least {_MIN_ID_LENGTH} digits of it"
        )
    ids = await listing.ids_with_prefix(pool, prefix)
    if not ids:
        raise UnknownRun(f"there is no run {prefix!r}; see `rollcall runs`")
    if len(ids) > 1:
        raise typer.BadParameter(f"several runs begin with {prefix!r}; give more of the id")
    return ids[0]
