"""The `replay` command: parse stored pages again with the present parser."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.runs import replay as run_replay
from app.store.schedules import heartbeats
from workers import replays

if TYPE_CHECKING:
    from app.runs.replay import ReplayReport, ReplayRequest, ReplaySource
    from app.store.db import Pool

app = typer.Typer()

_COUNTS = ("pages", "unreadable", "records", "new", "changed", "readable", "refused", "left_alone")


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(help="A source, such as bet9ja; source:NAME for a recipe.")
    ],
    *,
    since: Annotated[
        str, typer.Option(help="Pages fetched from this instant on, or an age such as `1d`.")
    ],
    only_rejected: Annotated[
        bool, typer.Option("--only-rejected", help="Only pages with rejected records.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Parse stored pages again with the present parser, and correct the stored rows.

    No request is sent. The difference is shown before anything is written, and only rows that
    differ are written. Start the workers with the corrected parser first. Pages and items of
    organisations are not replayed.

    Examples: `rollcall replay bet9ja --since 1d --dry-run`,
    `rollcall replay asknews_news --since 6h --only-rejected --yes`,
    `rollcall replay source:wares --since 1d`
    """
    if dry_run and yes:
        raise typer.BadParameter("--dry-run writes nothing; leave --yes out", param_hint="--yes")
    reader = replays.reader_of(connections.load_config(), source)

    async def build_request(pool: Pool) -> ReplayRequest:
        begin = terminal.parse_instant_or_age(since, await heartbeats.database_now(pool))
        return run_replay.ReplayRequest(begin, only_rejected, terminal.current_user())

    request = connections.with_pool(build_request)
    report = _run(reader, request, write=False)
    if not as_json:
        _show(report)
    if not dry_run and (report.differ or report.readable):
        if not yes:
            terminal.confirm("Write these changes?")
        report = _run(reader, request, write=True)
        sys.stderr.write(f"written by run {report.run_id}\n")
    if as_json:
        terminal.print_json(
            {**report.stats(), "run_id": report.run_id, "examples": _examples(report)}
        )


def _run(reader: ReplaySource, request: ReplayRequest, *, write: bool) -> ReplayReport:
    from rich.progress import Progress  # noqa: PLC0415 - not imported for `--help`

    with Progress(console=terminal.console(stderr=True)) as progress:
        task = progress.add_task("writing" if write else "reading", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        try:
            return connections.with_pool(
                lambda pool: run_replay.replay(pool, reader, request, report, write=write)
            )
        except KeyboardInterrupt:
            sys.stderr.write(
                "Interrupted. Each page is its own transaction; run it again for the rest.\n"
            )
            raise typer.Exit(130) from None


def _examples(report: ReplayReport) -> list[dict[str, Any]]:
    return [
        {"record": e.record, "field": e.field, "before": e.before, "after": e.after}
        for e in report.examples
    ]


def _show(report: ReplayReport) -> None:
    rows = _examples(report)
    if rows:
        terminal.print_table(rows, ("record", "field", "before", "after"))
    counts = (f"{name.replace('_', ' ')}: {getattr(report, name)}" for name in _COUNTS)
    terminal.write_line(", ".join(counts))
