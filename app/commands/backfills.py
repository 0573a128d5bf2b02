"""The command that runs the past again: `backfill`."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app import backfill as rooms
from app import terminal
from app.backfill import Plan, Wish
from app.store import beats
from app.terminal import Reach
from app.words import RunStatus

app = typer.Typer()

GOOD = frozenset({RunStatus.SUCCESS})


@app.command()
def backfill(  # noqa: PLR0913 - the options of a command are its arguments
    job: Annotated[str, typer.Argument(help="The schedule's name, such as poll_news.")],
    *,
    since: Annotated[str, typer.Option("--from", help="The first instant, or `1d` ago.")],
    until: Annotated[str, typer.Option("--to", help="The last instant, or `1h` ago.")] = "0s",
    missing: Annotated[
        bool, typer.Option("--missing", help="Only instants of which nothing came.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="Another name runs instants again that were backfilled before.")
    ] = "backfill",
    concurrency: Annotated[int, typer.Option(min=1, max=100, help="Runs at a time.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Run a job once for each instant that its schedule names in a stretch of the past.

    Interrupted by whatever, the same command goes on with what is left, and nothing runs twice.
    Scheduled runs come first: nothing is added while one of them waits.
    Exit code 1 if a run did not end as a success.

    Examples: `python -m app backfill poll_news --from 2026-09-05T00:00:00Z --to 1h`,
    `python -m app backfill poll_news --from 1d --missing --yes`
    """

    async def plan(reach: Reach) -> Plan:
        now = await beats.database_now(reach.pool)
        begin, end = terminal.since(since, now), terminal.since(until, now)
        wish = Wish(job, begin, end, terminal.user(), name, missing)
        return await rooms.planned(reach.pool, wish, now)

    planned = terminal.with_servers(plan)
    _announce(planned)
    if planned.todo and not yes:
        typer.confirm("Run them?", abort=True, err=True)
    try:
        terminal.with_servers(lambda reach: _carry_out(reach, planned, concurrency))
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. What is queued ends; the same command does the rest.\n")
        raise typer.Exit(130) from None
    _sum_up(planned, as_json=as_json)
    if set(planned.ended) - GOOD:
        raise typer.Exit(1)


def _announce(plan: Plan) -> None:
    told = f"{len(plan.runs)} instants of {plan.backfill.state.key}"
    if plan.runs:
        first, last = plan.runs[0][1], plan.runs[-1][1]
        told += f", {terminal.shown(first)} to {terminal.shown(last)} UTC"
    known = plan.done + len(plan.open)
    if known:
        told += f"; {plan.done} have run, {len(plan.open)} are under way, {len(plan.todo)} to do"
    sys.stderr.write(f"{told}\n")


async def _carry_out(reach: Reach, plan: Plan, most: int) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(plan.backfill.state.key, total=len(plan.runs))

        def told(so_far: Plan) -> None:
            progress.update(task, completed=so_far.done)

        await rooms.carry_out(reach.pool, reach.redis, plan, most, told)


def _sum_up(plan: Plan, *, as_json: bool) -> None:
    ended: dict[str, Any] = {status.value: count for status, count in sorted(plan.ended.items())}
    if as_json:
        facts = {"backfill_id": plan.backfill.id, "total": len(plan.runs), "ended": ended}
        terminal.print_json({"schedule": plan.backfill.state.key, **facts})
    else:
        told = ", ".join(f"{count} {status}" for status, count in ended.items())
        sys.stdout.write(f"{len(plan.runs)} runs: {told or 'nothing to do'}\n")
