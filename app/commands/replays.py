"""The command that reads kept pages again: `replay`."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from app import replay as rooms
from app import terminal
from app.config import Config
from app.errors import UnknownJob
from app.replay import Reader, Report, Wish
from app.store import beats
from app.store.db import Pool
from workers import catalogue, folder, own_pages

app = typer.Typer()

NUMBERS = ("pages", "unreadable", "records", "new", "changed", "readable", "refused", "left_alone")


@app.command()
def replay(  # noqa: PLR0913 - the options of a command are its arguments
    source: Annotated[str, typer.Argument(help="Such as bet9ja; source:NAME is a recipe.")],
    *,
    since: Annotated[str, typer.Option(help="Pages from this instant on, or `1d` ago.")],
    only_rejected: Annotated[
        bool, typer.Option("--only-rejected", help="Only pages of which records were put aside.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Read kept pages again with the parser as it is now, and mend what is stored.

    No site is asked. The difference is shown before anything is written, and only rows that differ
    are written. Start the workers with the mended parser first. What came for organisations is
    not read: their pages and items stay as they are.

    Examples: `python -m app replay bet9ja --since 1d --dry-run`,
    `python -m app replay asknews_news --since 6h --only-rejected --yes`,
    `python -m app replay source:wares --since 1d`
    """
    reader = _reader(terminal.config(), source)

    async def wish(pool: Pool) -> Wish:
        begin = terminal.since(since, await beats.database_now(pool))
        return Wish(begin, only_rejected, terminal.user())

    wanted = terminal.with_pool(wish)
    found = _done(reader, wanted, write=False)
    if not as_json:
        _show(found)
    if not dry_run and (found.differ or found.readable):
        if not yes:
            typer.confirm("Write it?", abort=True, err=True)
        found = _done(reader, wanted, write=True)
        sys.stderr.write(f"written by run {found.run_id}\n")
    if as_json:
        terminal.print_json(_plain(found))


def _reader(config: Config, source: str) -> Reader:
    if source.startswith(folder.PREFIX):
        return own_pages.reader(config, source.removeprefix(folder.PREFIX))
    known = {one.name: (job, one) for job in catalogue.JOBS for one in job.every_source(config)}
    if source not in known:
        own = [folder.PREFIX + one.name for one in folder.shelf(config)]
        told = ", ".join([*sorted(known), *own])
        raise UnknownJob(f"there is no source {source!r}; known: {told}")
    job, found = known[source]
    return Reader(job.name, found, job.write)


def _done(reader: Reader, wish: Wish, *, write: bool) -> Report:
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("writing" if write else "reading", total=None)

        def told(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        try:
            return terminal.with_pool(
                lambda pool: rooms.replay(pool, reader, wish, told, write=write)
            )
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted. Each page stands for itself; ask again for the rest.\n")
            raise typer.Exit(130) from None


def _show(found: Report) -> None:
    rows = [
        {"record": one.record, "field": one.field, "before": one.before, "after": one.after}
        for one in found.examples
    ]
    if rows:
        terminal.print_table(rows, ("record", "field", "before", "after"))
    numbers = (f"{name.replace('_', ' ')}: {getattr(found, name)}" for name in NUMBERS)
    sys.stdout.write(", ".join(numbers) + "\n")


def _plain(found: Report) -> dict[str, Any]:
    examples = [
        {"record": e.record, "field": e.field, "before": e.before, "after": e.after}
        for e in found.examples
    ]
    return {**found.stats(), "run_id": found.run_id, "examples": examples}
