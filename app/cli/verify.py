"""The `verify` and `why` commands: check the ledger and explain a tick."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import connections, terminal
from app.core.printable import counted
from app.ledger import explain, proof
from app.store import db
from app.store.orgs import webhooks as deliveries
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.orgs.webhooks import DeliveryAccount

app = typer.Typer()


@app.command()
def verify(
    *,
    as_json: terminal.JSON = False,
    all_ticks: Annotated[
        bool, typer.Option("--all", help="Count all ticks again, not only the new ones.")
    ] = False,
) -> None:
    """Prove that every tick has exactly one outcome. Exit code 1 if one has none or several.

    Ticks that an earlier `verify` proved are not counted again, but are in the numbers.
    Without --json also what became of the changes for organisations' webhooks: delivered, waiting,
    or undelivered with the reason. Exit code 1 if one is in no delivery or in several.

    Examples: `rollcall verify`, `rollcall verify --all --json`
    """
    accounts, webhooks = connections.with_pool(lambda pool: _verify(pool, all_ticks=all_ticks))
    if as_json:
        terminal.print_json([_as_json(account) for account in accounts])
    else:
        _show(accounts)
        _show_webhooks(webhooks)
    consistent = all(account.consistent for account in accounts)
    if not consistent or any(webhook.unaccounted for webhook in webhooks):
        raise typer.Exit(1)


@app.command()
def why(
    job: Annotated[str, typer.Argument(help="The schedule's name, such as scrape_all_platforms.")],
    tick: Annotated[
        str | None,
        typer.Argument(help="The tick, such as 2026-09-05T14:00:00Z; default: the latest."),
    ] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Explain the outcome of a tick, from schedule to run.

    Examples: `rollcall why scrape_all_platforms`,
    `rollcall why scrape_all_platforms 2026-09-05T14:05:00Z`
    """
    at = None if tick is None else terminal.parse_instant(tick)
    sentences = connections.with_pool(lambda pool: explain.explain(pool, job, at))
    if as_json:
        terminal.print_json({"job": job, "tick": at, "explanation": list(sentences)})
        return
    for sentence in sentences:
        terminal.write_line(sentence)


async def _verify(
    pool: db.Pool, *, all_ticks: bool
) -> tuple[list[proof.TickAccount], list[DeliveryAccount]]:
    now = await heartbeats.database_now(pool)
    accounts = await (proof.verify(pool, now) if all_ticks else proof.verify_new(pool, now))
    return accounts, await deliveries.account(pool)


def _as_json(account: proof.TickAccount) -> dict[str, Any]:
    return {
        "schedule": account.key,
        "frontier": account.frontier.isoformat(),
        "expected": account.expected,
        "ran": account.ran,
        "skipped": dict(account.skipped),
        "missed": dict(account.missed),
        "duplicates": account.duplicates,
        "unaccounted": account.unaccounted,
        "invented": account.unexpected,
        "stuck": account.stuck,
        "pruned": account.pruned,
        "unreadable": account.unreadable,
        "examples": [instant.isoformat() for instant in account.examples],
    }


def _show(accounts: list[proof.TickAccount]) -> None:
    console = terminal.console(markup=True)
    for account in accounts:
        console.print(f"[bold]{terminal.markup(account.key)}[/]")
        console.print(
            f"  expected: {account.expected}   ran: {account.ran}"
            f"   skipped: {_by_reason(account.skipped)}   missed: {_by_reason(account.missed)}"
        )
        console.print(
            f"  duplicates: {account.duplicates + account.unexpected}"
            f"   unaccounted: {account.unaccounted}   stuck: {account.stuck}",
            style="green" if account.consistent else "bold red",
        )
        if account.unreadable is not None:
            console.print(f"  unreadable, its ticks are held: {account.unreadable}", style="red")
        for instant in account.examples:
            console.print(f"  no outcome for {instant.isoformat()}", style="red")
    ticks = sum(account.expected for account in accounts)
    duplicates = sum(account.duplicates + account.unexpected for account in accounts)
    unaccounted = sum(account.unaccounted for account in accounts)
    console.print(
        f"{counted(len(accounts), 'schedule')}, {counted(ticks, 'tick')}, duplicates: {duplicates},"
        f" unaccounted: {unaccounted}"
    )


def _show_webhooks(webhooks: list[DeliveryAccount]) -> None:
    if not webhooks:
        return
    reasons: Counter[str] = Counter()
    for webhook in webhooks:
        reasons.update(webhook.undelivered)
    unaccounted = sum(webhook.unaccounted for webhook in webhooks)
    terminal.console(markup=True).print(
        f"{len(webhooks)} webhooks, changes delivered: {sum(w.delivered for w in webhooks)},"
        f" waiting: {sum(w.waiting for w in webhooks)},"
        f" undelivered: {terminal.markup(_by_reason(dict(reasons)))}, unaccounted: {unaccounted}",
        style="bold red" if unaccounted else None,
    )


def _by_reason(counts: dict[str, int]) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({reasons})" if reasons else "0"
