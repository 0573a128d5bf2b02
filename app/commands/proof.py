"""The commands that prove and explain: `verify`, `why`."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from app import proof, terminal
from app.errors import UnknownJob
from app.store import beats, db

app = typer.Typer()


@app.command()
def verify(*, as_json: terminal.JSON = False) -> None:
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
        "pruned": account.pruned,
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
