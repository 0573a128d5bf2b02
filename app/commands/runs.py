"""The commands about runs: `runs`, `run`, `cancel`, `retry`."""

import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from app import terminal
from app.commands import asking, collecting
from app.errors import UnknownRun
from app.store import beats, listing
from app.store import proof as stories
from app.store import runs as store
from app.store.db import Pool
from app.store.listing import Filter
from app.terminal import Reach
from app.words import OPEN_STATUSES, RunStatus, Trigger

app = typer.Typer()

COLUMNS = (
    "run", "job", "trigger", "status", "attempt", "scheduled_for", "started_at",
    "duration_seconds", "error_message",
)  # fmt: skip
DETAILS = (
    "execution_id", "job", "trigger", "requested_by", "status", "attempt", "worker",
    "scheduled_for", "created_at", "started_at", "completed_at", "duration_seconds",
    "error_type", "error_message", "params", "stats", "backfill_id",
)  # fmt: skip
SOURCES = (
    "source", "status", "partitions", "pages", "records", "inserted", "changed", "unchanged",
    "rejected", "requests", "retries", "error_message",
)  # fmt: skip
PAUSE = 1.0  # seconds between two looks
OVERLAP = timedelta(seconds=10)
FEWEST = 6  # characters of an id
RunId = Annotated[str, typer.Argument(help="The run's id, or how it begins.")]


@app.command()
def runs(  # noqa: PLR0913 - the filters of a command are its arguments
    *,
    job: Annotated[str | None, typer.Option(help="Only of this job or schedule.")] = None,
    status: Annotated[list[RunStatus] | None, typer.Option(help="Only with this status.")] = None,
    trigger: Annotated[Trigger | None, typer.Option(help="Only asked for so.")] = None,
    since: Annotated[str | None, typer.Option(help="An instant, or `2h`, `1d` ago.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Runs at most.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """List runs, the newest first. With `--follow`, print each as it begins and ends.

    Examples: `python -m app runs --since 2h`,
    `python -m app runs --job poll_news --status failure --status lost --json`,
    `python -m app runs --follow`
    """

    async def ask(pool: Pool) -> None:
        now = await beats.database_now(pool)
        begin = None if since is None else terminal.since(since, now)
        wanted = Filter(job, status or None, trigger, begin)
        if follow:
            await _follow(pool, wanted, now, as_json=as_json)
        else:
            _list(await listing.newest(pool, wanted, limit), as_json=as_json)

    try:
        terminal.with_pool(ask)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _list(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(rows)
    else:
        brief = ({**row, "run": str(row["execution_id"])[:8]} for row in rows)
        terminal.print_table(brief, COLUMNS)


async def _follow(pool: Pool, wanted: Filter, since: datetime, *, as_json: bool) -> None:
    told: dict[UUID, tuple[str, int]] = {}
    last = since
    while True:
        now = await beats.database_now(pool)
        # What was being committed at the last look is not missed.
        for row in await listing.moved(pool, wanted, last):
            stands = (row["status"], row["attempt"])
            if told.get(row["execution_id"]) != stands:
                told[row["execution_id"]] = stands
                _line(row, as_json=as_json)
        ended = [run for run, (status, _) in told.items() if status not in OPEN_STATUSES]
        for run in ended[:-10_000]:
            del told[run]
        last = max(since, now - OVERLAP)
        await asyncio.sleep(PAUSE)


def _line(row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(row)
        return
    at = row["completed_at"] or row["started_at"] or row["created_at"]
    error = f"  {row['error_message']}" if row["error_message"] else ""
    sys.stdout.write(
        f"{terminal.shown(at)}  {row['execution_id']}  {row['job']}  {row['trigger']}"
        f"  {row['status']}{error}\n"
    )
    sys.stdout.flush()


@app.command()
def run(run_id: RunId, *, as_json: terminal.JSON = False) -> None:
    """Tell all about one run: its attempts, its sources, its errors.

    Example: `python -m app run 5f0c7f3e`
    """

    async def ask(pool: Pool) -> dict[str, Any]:
        found = await _found(pool, run_id)
        row = await store.look(pool, found) or {}
        async with pool.acquire() as connection:
            events = await stories.events(connection, found)
        return row | {"sources": await store.look_sources(pool, found), "events": events}

    row = terminal.with_pool(ask)
    if as_json:
        terminal.print_json(row)
        return
    console = terminal.console()
    for name in DETAILS:
        if row.get(name) not in (None, {}):
            console.print(f"{name:>16}  {terminal.shown(row[name])}")
    terminal.print_table(row["sources"], SOURCES)
    terminal.print_table(row["events"], ("at", "event", "attempt", "worker", "detail"))


@app.command()
def cancel(run_id: RunId) -> None:
    """End a run that is queued or running. Its worker notices within a third of a lease.

    Example: `python -m app cancel 5f0c7f3e`
    """

    async def end(pool: Pool) -> tuple[UUID, bool]:
        found = await _found(pool, run_id)
        by = f"cancelled by {terminal.user()}"
        now = await beats.database_now(pool)
        return found, bool(await store.cancel_open(pool, [found], now, by=by))

    found, done = terminal.with_pool(end)
    if not done:
        raise typer.BadParameter(f"run {found} has ended already")
    sys.stdout.write(f"{found} is cancelled\n")


@app.command()
def retry(
    run_id: RunId,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress to the end.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Queue a new run with the parameters of one that has ended. The old one stays as it was.

    Of a collection it is a run of what its organisation has chosen by now, and within its limits.

    Example: `python -m app retry 5f0c7f3e --wait`
    """

    async def look(reach: Reach) -> dict[str, Any]:
        return await store.look(reach.pool, await _found(reach.pool, run_id)) or {}

    old = terminal.with_servers(look)
    if old["status"] in OPEN_STATUSES:
        raise typer.BadParameter(f"run {old['execution_id']} has not ended yet; see `cancel`")
    by = f"{terminal.user()} (retry of {old['execution_id']})"
    if old["org_id"] is not None:
        terminal.with_servers(
            lambda reach: collecting.again(reach, old, by, wait=wait, plain=as_json)
        )
        return
    asking.ask(old["job"], old["params"], by, wait=wait, as_json=as_json)


async def _found(pool: Pool, begins: str) -> UUID:
    if len(begins) < FEWEST or not re.fullmatch(r"[0-9a-fA-F-]+", begins):
        raise typer.BadParameter(f"{begins!r} is no run's id; give at least {FEWEST} digits of it")
    named = await listing.named(pool, begins)
    if not named:
        raise UnknownRun(f"there is no run {begins!r}; see `python -m app runs`")
    if len(named) > 1:
        raise typer.BadParameter(f"several runs begin with {begins!r}; give more of the id")
    return named[0]
