"""The commands about organisations and their tokens: `python -m app org`, `python -m app token`."""

import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from app import access, allowance, ledger, terminal
from app.errors import UnknownOrg
from app.store import beats, chosen, orgs, runs
from app.store.db import Pool
from app.store.orgs import Org
from app.words import Scope

org = typer.Typer(help="Organisations.", no_args_is_help=True)
token = typer.Typer(help="Their tokens.", no_args_is_help=True)

LONGEST = 80  # characters of a label
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Name = Annotated[str, typer.Argument(help="The organisation's name.")]
OfOrg = Annotated[str, typer.Option("--org", help="The organisation's name.")]


@org.command("create")
def create_org(name: Name, *, as_json: JSON = False) -> None:
    """Make an organisation.

    Example: `python -m app org create "Acme Odds"`
    """

    async def make(pool: Pool) -> UUID:
        return await access.create_org(pool, name, await beats.database_now(pool))

    org_id = terminal.with_pool(make)
    _tell({"id": str(org_id), "name": name}, f"{name}: {org_id}", as_json=as_json)


@org.command("list")
def list_orgs(*, as_json: JSON = False) -> None:
    """List the organisations, with the limits that are their own.

    Example: `python -m app org list`
    """
    found = terminal.with_pool(orgs.all_of)
    rows = [
        {
            "id": str(one.id),
            "name": one.name,
            "created_at": one.created_at.isoformat(),
            "disabled_at": one.disabled_at and one.disabled_at.isoformat(),
            "limits": one.limits,
        }
        for one in found
    ]
    _table(rows, as_json=as_json)


@org.command("disable")
def disable_org(name: Name) -> None:
    """Shut an organisation out: its tokens work no more, its open runs are cancelled.

    What its collection's schedule names from now on is recorded as `skipped(disabled)`.

    Example: `python -m app org disable "Acme Odds"`
    """
    _with_org(name, shut_out)
    sys.stdout.write(f"{name} is disabled\n")


@org.command("enable")
def enable_org(name: Name) -> None:
    """Let an organisation in again.

    Example: `python -m app org enable "Acme Odds"`
    """
    _with_org(name, let_in)
    sys.stdout.write(f"{name} is enabled\n")


@org.command("limit")
def limit_org(
    name: Name,
    limit: Annotated[str, typer.Argument(help=f"One of: {', '.join(allowance.NAMES)}.")],
    value: Annotated[
        float | None, typer.Argument(min=0, help="The limit; without it the settings' again.")
    ] = None,
) -> None:
    """Give an organisation a limit of its own, or that of the settings again.

    Examples: `python -m app org limit "Acme Odds" max_pages 2000`,
    `python -m app org limit "Acme Odds" max_pages`
    """
    if limit not in allowance.NAMES:
        raise typer.BadParameter(f"{limit!r} is none of {', '.join(allowance.NAMES)}")
    _with_org(name, lambda pool, found, _: orgs.limit(pool, found.id, limit, value))
    said = "as the settings have it" if value is None else f"{value:g}"
    sys.stdout.write(f"{name}: {limit} is {said}\n")


@token.command("create")
def create_token(
    of: OfOrg,
    scope: Annotated[Scope, typer.Option(help="What it may do.")] = Scope.READ,
    label: Annotated[str, typer.Option(help="What it is for; its deeds are recorded so.")] = "api",
    days: Annotated[float | None, typer.Option(min=0.001, help="Until it expires.")] = None,
    *,
    as_json: JSON = False,
) -> None:
    """Make a token and print it, this once: it is not kept.

    Example: `python -m app token create --org "Acme Odds" --scope operate --days 90`
    """
    if not label.isprintable() or not 0 < len(label) <= LONGEST:
        raise typer.BadParameter(f"1 to {LONGEST} printable characters", param_hint="--label")

    async def make(pool: Pool) -> str:
        now = await beats.database_now(pool)
        expires = None if days is None else now + timedelta(days=days)
        wish = access.Wish(of, label, scope, expires)
        return await access.create_token(pool, wish, now, by=getpass.getuser())

    secret = terminal.with_pool(make)
    _tell({"token": secret, "org": of, "scope": scope.value}, secret, as_json=as_json)
    if not as_json:
        sys.stderr.write("Keep it now: it is not stored and cannot be shown again.\n")


@token.command("list")
def list_tokens(of: OfOrg, *, as_json: JSON = False) -> None:
    """List an organisation's tokens, without their secrets.

    Example: `python -m app token list --org "Acme Odds"`
    """
    found = _with_org(of, lambda pool, one, _: orgs.tokens(pool, one.id))
    rows = [
        {
            "id": str(one.id),
            "label": one.label,
            "scope": one.scope.value,
            "created_at": one.created_at.isoformat(timespec="seconds"),
            "expires_at": one.expires_at and one.expires_at.isoformat(timespec="seconds"),
            "revoked_at": one.revoked_at and one.revoked_at.isoformat(timespec="seconds"),
            "last_used_at": one.last_used_at and one.last_used_at.isoformat(timespec="seconds"),
        }
        for one in found
    ]
    _table(rows, as_json=as_json)


@token.command("revoke")
def revoke_token(
    token_id: Annotated[UUID, typer.Argument(help="Its id, as `token list` prints it.")],
) -> None:
    """Revoke a token: it works no more, from now on.

    Example: `python -m app token revoke 5f0c7f3e-7f0e-4d0c-9a43-0b9b6f1c2d11`
    """

    async def revoke(pool: Pool) -> bool:
        return await orgs.revoke(pool, token_id, await beats.database_now(pool))

    if not terminal.with_pool(revoke):
        raise typer.BadParameter(f"no token {token_id} that still works")
    sys.stdout.write(f"{token_id} is revoked\n")


def _with_org(
    name: str, step: Callable[[Pool, Org, datetime], Awaitable[terminal.Result]]
) -> terminal.Result:
    async def run(pool: Pool) -> terminal.Result:
        found = await orgs.named(pool, name)
        if found is None:
            raise UnknownOrg(f"there is no organisation {name!r}; see `python -m app org list`")
        return await step(pool, found, await beats.database_now(pool))

    return terminal.with_pool(run)


async def shut_out(pool: Pool, found: Org, now: datetime) -> None:
    await ledger.ring(pool, f"collection:{found.id}", now)  # what was due before was not disabled
    async with pool.acquire() as connection, connection.transaction():
        await orgs.disable(connection, found.id, now)
        under_way = await chosen.open_runs(connection, found.id)
        await runs.cancel_open(connection, under_way, now, by="the organisation is disabled")


async def let_in(pool: Pool, found: Org, now: datetime) -> None:
    await ledger.ring(pool, f"collection:{found.id}", now)  # what was due before was
    await orgs.disable(pool, found.id, None)


def _tell(facts: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    sys.stdout.write((json.dumps(facts) if as_json else sentence) + "\n")


def _table(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    if not rows:
        sys.stdout.write("none\n")
        return
    terminal.print_table(rows, list(rows[0]))
