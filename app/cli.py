"""Front door: the commands. `python -m app --help`"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from app import config as settings
from app import log, migrations, proof, resources
from app.errors import RollcallError, UnknownJob
from app.store import db

Result = TypeVar("Result")

app = typer.Typer(
    help="Rollcall: scheduled scraping that can prove it ran.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Run a command; what is wrong is said in a sentence, and the exit code is 2."""
    try:
        app()
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date.

    Example: `python -m app migrate`
    """
    config = _config()
    if config.database_url is None:
        resources.urls(config)  # starting the private servers brings their schema up to date
    else:
        migrations.upgrade(config.database_url.get_secret_value())


@app.command()
def verify(*, as_json: JSON = False) -> None:
    """Prove that every tick has exactly one outcome. Exit code 1 if one has not.

    Examples: `python -m app verify`, `python -m app verify --json`
    """
    accounts = _with_pool(lambda pool: proof.verify(pool, datetime.now(UTC)))
    if as_json:
        sys.stdout.write(json.dumps([_plain(account) for account in accounts]) + "\n")
    else:
        Console().print(_table(accounts))
    if not all(account.sound for account in accounts):
        raise typer.Exit(1)


@app.command()
def why(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    tick: Annotated[
        str | None, typer.Argument(help="The instant, such as 2026-09-05T14:00:00Z; else the last.")
    ] = None,
) -> None:
    """Tell what became of a tick, and why: from schedule to outcome.

    Examples: `python -m app why scrape_all_platforms`,
    `python -m app why scrape_all_platforms 2026-09-05T14:05:00Z`
    """
    at = None if tick is None else _instant(tick)
    try:
        sentences = _with_pool(lambda pool: proof.why(pool, job, at))
    except UnknownJob as error:
        raise typer.BadParameter(str(error)) from None
    for sentence in sentences:
        sys.stdout.write(f"{sentence}\n")


def _config() -> settings.Config:
    config = settings.load()
    log.configure(config.log_format, "warning")
    return config


def _with_pool(step: Callable[[db.Pool], Awaitable[Result]]) -> Result:
    dsn = resources.urls(_config()).database

    async def run() -> Result:
        pool = await db.open_pool(dsn, size=2)
        try:
            return await step(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no instant; try 2026-09-05T14:00:00Z") from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _plain(account: proof.Account) -> dict[str, Any]:
    return {
        "schedule": account.key,
        "frontier": account.frontier.isoformat(),
        "expected": account.expected,
        "ran": account.ran,
        "skipped": dict(account.skipped),
        "missed": dict(account.missed),
        "duplicates": account.duplicates,
        "unaccounted": account.unaccounted,
        "invented": account.invented,
        "stuck": account.stuck,
        "examples": [instant.isoformat() for instant in account.examples],
    }


def _table(accounts: list[proof.Account]) -> Table:
    table = Table(title="Every tick answers", title_justify="left")
    table.add_column("schedule", no_wrap=True)
    for name in ("expected", "ran", "skipped", "missed", "doubled", "unaccounted", "stuck"):
        table.add_column(name, justify="right", no_wrap=True)
    for account in accounts:
        table.add_row(
            account.key,
            str(account.expected),
            str(account.ran),
            _by_reason(account.skipped),
            _by_reason(account.missed),
            str(account.duplicates + account.invented),
            str(account.unaccounted),
            str(account.stuck),
            style=None if account.sound else "bold red",
        )
    return table


def _by_reason(tally: dict[str, int]) -> str:
    return "\n".join(f"{count} {reason}" for reason, count in sorted(tally.items())) or "0"
