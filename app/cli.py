"""Front door: the commands. `python -m app --help`"""

import asyncio
import getpass
import json
import sys
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError
from rich.console import Console

from app import (
    ledger,
    migrations,
    odds_cli,
    once,
    orgs_cli,
    proof,
    resources,
    source_cli,
    terminal,
)
from app.errors import RollcallError, UnknownJob
from app.queue import redis_pool
from app.store import beats, db

app = typer.Typer(
    help="Rollcall: scheduled scraping that can prove it ran.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(odds_cli.app, name="odds")
app.add_typer(source_cli.app, name="source")
app.add_typer(orgs_cli.org, name="org")
app.add_typer(orgs_cli.token, name="token")
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
    config = terminal.config()
    if config.database_url is None:
        resources.urls(config)  # starting the private servers brings their schema up to date
    else:
        migrations.upgrade(config.database_url.get_secret_value())


@app.command()
def login(
    base: Annotated[str, typer.Option(help="Where the page is.")] = "http://127.0.0.1:8000",
) -> None:
    """Print an address that signs in once, within ten minutes, as the local organisation.

    Example: `python -m app login --base https://rollcall.example.org`
    """
    config = terminal.config()
    where = resources.urls(config)

    async def mint() -> str:
        redis = redis_pool(where.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)
        try:
            return await once.mint(redis)
        finally:
            await redis.aclose(close_connection_pool=True)

    try:
        path = asyncio.run(mint())
    except (RedisError, OSError):
        sys.stderr.write("Redis does not answer.\n")
        raise typer.Exit(1) from None
    sys.stdout.write(f"{base.rstrip('/')}{path}\n")


@app.command()
def verify(*, as_json: JSON = False) -> None:
    """Prove that every tick has exactly one outcome. Exit code 1 if one has not.

    Examples: `python -m app verify`, `python -m app verify --json`
    """
    accounts = terminal.with_pool(_verified)
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
    at = None if tick is None else terminal.instant(tick)
    try:
        sentences = terminal.with_pool(lambda pool: proof.why(pool, job, at))
    except UnknownJob as error:
        raise typer.BadParameter(str(error)) from None
    for sentence in sentences:
        sys.stdout.write(f"{sentence}\n")


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

    terminal.with_pool(rest)
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

    terminal.with_pool(go_on)
    sys.stdout.write(f"{job} goes on\n")


async def _verified(pool: db.Pool) -> list[proof.Account]:
    return await proof.verify(pool, await beats.database_now(pool))


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
