"""The `backfill` and `backfills` commands: run a schedule's past ticks again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.core.enums import RunStatus
from app.core.errors import WrongState
from app.core.printable import counted
from app.ledger import backfill as ledger_backfill
from app.store.schedules import backfills as store
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from uuid import UUID

    from app.cli.connections import CommandContext
    from app.ledger.backfill import BackfillPlan

app = typer.Typer()

COLUMNS = (
    "job", "name", "since", "until", "total", "fed", "open", "failed", "requested_by",
    "completed_at", "stopped_by",
)  # fmt: skip
_SUCCEEDED = frozenset({RunStatus.SUCCESS})


@app.command()
def backfill(  # noqa: PLR0913 - the options of a command are its arguments
    job: Annotated[str, typer.Argument(help="The schedule's name, such as poll_news.")],
    *,
    since: Annotated[
        str, typer.Option("--from", help="The first instant, or an age such as `1d`.")
    ],
    until: Annotated[
        str, typer.Option("--to", help="The last instant, or an age such as `1h`.")
    ] = "0s",
    missing: Annotated[
        bool, typer.Option("--missing", help="Only instants whose run failed or is missing.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="A new name runs instants again that an earlier backfill ran.")
    ] = "backfill",
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=100, help="Runs open at the same time; default: 1.")
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="Add no more runs to what is under way in this range.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Run a job once for each tick of its schedule in a past range.

    The workers go on with it when this command ends; the same command follows it again, continues
    one that was stopped, and runs no instant twice.
    Scheduled runs take precedence: nothing is enqueued while one of them is queued.
    Exit code 1 if a run did not succeed.

    Examples: `rollcall backfill poll_news --from 2026-09-05T00:00:00Z --to 1h`,
    `rollcall backfill poll_news --from 1d --missing --yes`
    """
    if stop and (missing or yes or concurrency is not None):
        message = "it asks and runs nothing: leave out --missing, --concurrency and --yes"
        raise typer.BadParameter(message, param_hint="--stop")

    async def plan(context: CommandContext) -> BackfillPlan:
        now = await heartbeats.database_now(context.pool)
        begin, end = (
            terminal.parse_instant_or_age(since, now),
            terminal.parse_instant_or_age(until, now),
        )
        if end < begin:
            raise typer.BadParameter("it is before --from", param_hint="--to")
        request = ledger_backfill.BackfillRequest(
            job, begin, end, terminal.current_user(), name, missing, concurrency or 1
        )
        return await ledger_backfill.make_plan(context.pool, request, now)

    planned = connections.with_servers(plan)
    if stop:
        _stop(planned, as_json=as_json)
        return
    _print_plan(planned)
    if planned.todo and not yes:
        terminal.confirm("Run them?")
    try:
        connections.with_servers(lambda context: _execute(context, planned))
    except KeyboardInterrupt:
        sys.stderr.write(
            "Interrupted. The workers go on; --stop ends it, the same command follows it.\n"
        )
        raise typer.Exit(130) from None
    _print_summary(planned, as_json=as_json)
    if set(planned.ended) - _SUCCEEDED:
        raise typer.Exit(1)


@app.command()
def backfills(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of rows.")] = 20,
    as_json: terminal.JSON = False,
) -> None:
    """List the newest backfills of the operator's jobs, and how far each is.

    Example: `rollcall backfills`
    """
    rows = connections.with_pool(lambda pool: store.recent(pool, limit))
    terminal.print_rows(rows, COLUMNS, as_json=as_json)


def _print_plan(plan: BackfillPlan) -> None:
    text = f"{len(plan.runs)} instants of {plan.backfill.state.key}"
    if plan.runs:
        first, last = plan.runs[0][1], plan.runs[-1][1]
        text += f", {terminal.format_value(first)} to {terminal.format_value(last)} UTC"
    known = plan.done + len(plan.open)
    if known:
        text += f"; {plan.done} have run, {len(plan.open)} are open, {len(plan.todo)} to do"
    sys.stderr.write(f"{text}\n")


def _stop(plan: BackfillPlan, *, as_json: bool) -> None:
    async def end(context: CommandContext) -> list[UUID]:
        unfinished = await store.unfinished_within(context.pool, plan.backfill)
        if plan.backfill.id in unfinished:
            unfinished = [plan.backfill.id]
        now, by = await heartbeats.database_now(context.pool), terminal.current_user()
        return [
            each
            for each in unfinished
            if await ledger_backfill.stop(context.pool, each, now, by=by)
        ]

    stopped = connections.with_servers(end)
    if not stopped:
        raise WrongState("no backfill of this job, range and name is under way")
    done = {"schedule": plan.backfill.state.key, "backfill_id": stopped[0], "stopped": True}
    terminal.print_done(done, "The backfill is stopped; its queued runs end.", as_json=as_json)


async def _execute(context: CommandContext, plan: BackfillPlan) -> None:
    from rich import progress as bars  # noqa: PLC0415 - not imported for `--help`

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    if plan.todo:
        await ledger_backfill.start(context.pool, plan, await heartbeats.database_now(context.pool))
    with bars.Progress(*columns, console=terminal.console(stderr=True)) as progress:
        task = progress.add_task(plan.backfill.state.key, total=len(plan.runs))
        await ledger_backfill.follow(
            context.pool, plan, lambda done: progress.update(task, completed=done)
        )


def _print_summary(plan: BackfillPlan, *, as_json: bool) -> None:
    ended: dict[str, Any] = {status.value: count for status, count in sorted(plan.ended.items())}
    if as_json:
        facts = {"backfill_id": plan.backfill.id, "total": len(plan.runs), "ended": ended}
        terminal.print_json({"schedule": plan.backfill.state.key, **facts})
    else:
        counts = ", ".join(f"{count} {status}" for status, count in ended.items())
        sys.stdout.write(f"{counted(len(plan.runs), 'run')}: {counts or 'nothing to do'}\n")
