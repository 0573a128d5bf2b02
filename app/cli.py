"""Front door: the commands. `python -m app --help`"""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from app import config as settings
from app import ledger, log, migrations, proof, resources
from app.errors import BadConfig, RollcallError, UnknownJob
from app.store import beats, db

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
    accounts = _with_pool(_verified)
    if as_json:
        sys.stdout.write(json.dumps([_plain(account) for account in accounts]) + "\n")
    else:
        _say(accounts)
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


async def _verified(pool: db.Pool) -> list[proof.Account]:
    return await proof.verify(pool, await beats.database_now(pool))


@app.command()
def pause(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    note: Annotated[str, typer.Option(help="Why; health and `why` show it.")],
) -> None:
    """Let a schedule rest. Its ticks are recorded as skipped (paused) until it is resumed.

    Example: `python -m app pause scrape_all_platforms --note "the site asked us to wait"`
    """

    async def rest(pool: db.Pool) -> None:
        now = await beats.database_now(pool)
        await ledger.pause(pool, job, now, by=getpass.getuser(), note=note)

    _with_pool(rest)
    sys.stdout.write(f"{job} is paused: {note}\n")


@app.command()
def resume(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
) -> None:
    """Let a paused schedule go on; every tick of the pause is recorded first.

    Example: `python -m app resume scrape_all_platforms`
    """

    async def go_on(pool: db.Pool) -> None:
        await ledger.resume(pool, job, await beats.database_now(pool))

    _with_pool(go_on)
    sys.stdout.write(f"{job} goes on\n")


def _config() -> settings.Config:
    config = settings.load()
    log.configure(config.log_format, "warning")
    return config


def _with_pool(step: Callable[[db.Pool], Awaitable[Result]]) -> Result:
    dsn = resources.urls(_config()).database

    async def run() -> Result:
        pool = await db.open_pool(dsn, size=2, patience=5)
        try:
            return await step(pool)
        finally:
            await pool.close()

    try:
        return asyncio.run(run())
    except db.UNFIT as error:
        raise BadConfig(f"{error}; is DATABASE_URL right, and has `migrate` been run?") from None
    except db.AWAY as error:
        raise BadConfig(f"Postgres cannot be reached (DATABASE_URL): {error}") from None


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


def _say(accounts: list[proof.Account]) -> None:
    console = Console(highlight=False)
    for account in accounts:
        console.print(f"[bold]{account.key}[/]")
        console.print(
            f"  expected: {account.expected}   ran: {account.ran}"
            f"   skipped: {_by_reason(account.skipped)}   missed: {_by_reason(account.missed)}"
        )
        console.print(
            f"  duplicates: {account.duplicates + account.invented}"
            f"   unaccounted: {account.unaccounted}   stuck: {account.stuck}",
            style="green" if account.sound else "bold red",
        )
        for instant in account.examples:
            console.print(f"  no outcome for {instant.isoformat()}", style="red")
    ticks = sum(account.expected for account in accounts)
    doubled = sum(account.duplicates + account.invented for account in accounts)
    unaccounted = sum(account.unaccounted for account in accounts)
    console.print(
        f"{len(accounts)} schedules, {ticks} ticks, duplicates: {doubled},"
        f" unaccounted: {unaccounted}"
    )


def _by_reason(tally: dict[str, int]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.items()))
    return f"{sum(tally.values())} ({reasons})" if reasons else "0"
