"""The `org` and `token` commands: manage organisations and their API tokens."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from app.cli import connections, terminal
from app.core.enums import Scope
from app.core.errors import FileUnusable, WrongState, is_of_a_file
from app.orgs import admin, leaving, limits, usage
from app.orgs import tokens as access
from app.store.orgs import orgs
from app.store.orgs import usage as usage_rows
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.cli.connections import CommandContext
    from app.store.db import Pool
    from app.store.orgs.orgs import Org

org = typer.Typer(help="Manage organisations.", no_args_is_help=True)
token = typer.Typer(help="Manage API tokens.", no_args_is_help=True)

_MAX_LABEL_LENGTH = 80
_TOKEN_COLUMNS = (
    "id", "label", "scope", "created_at", "expires_at", "revoked_at", "last_used_at", "data",
)  # fmt: skip
Name = Annotated[str, typer.Argument(help="The organisation's name.")]
OfOrg = Annotated[
    str | None, typer.Option("--org", help="The organisation's name; its rows are all it sees.")
]
OfOperator = Annotated[
    bool, typer.Option("--operator", help="The operator's: it sees and steers the built-in jobs.")
]


@org.command("create")
def create_org(name: Name, *, as_json: terminal.JSON = False) -> None:
    """Create an organisation.

    Example: `rollcall org create "Acme Odds"`
    """

    async def create(pool: Pool) -> UUID:
        return await access.create_org(pool, name, await heartbeats.database_now(pool))

    org_id = connections.with_pool(create)
    terminal.print_done({"id": org_id, "name": name}, f"{name}: {org_id}", as_json=as_json)


@org.command("list")
def list_orgs(*, as_json: terminal.JSON = False) -> None:
    """List the organisations with the limits set for each, and what each stores.

    Example: `rollcall org list`
    """

    async def read(pool: Pool) -> tuple[list[Org], dict[UUID, tuple[int, int]]]:
        return await orgs.all_of(pool), await usage_rows.stored(pool)

    organisations, stored = connections.with_pool(read)
    rows = [
        {
            "id": str(found.id),
            "name": found.name,
            "created_at": found.created_at,
            "disabled_at": found.disabled_at,
            "limits": found.limits,
            "rows": stored.get(found.id, (0, 0))[0],
            "stored_mb": round(stored.get(found.id, (0, 0))[1] / usage.BYTES_PER_MB, 3),
        }
        for found in organisations
    ]
    terminal.print_rows(rows, as_json=as_json)


@org.command("disable")
def disable_org(name: Name, *, as_json: terminal.JSON = False) -> None:
    """Disable an organisation: its tokens stop working, its open runs are cancelled.

    From now on the ticks of its collection's schedule are recorded as `skipped(disabled)`.

    Example: `rollcall org disable "Acme Odds"`
    """
    _with_org(name, admin.disable)
    terminal.print_done({"name": name, "enabled": False}, f"{name} is disabled", as_json=as_json)


@org.command("enable")
def enable_org(name: Name, *, as_json: terminal.JSON = False) -> None:
    """Enable a disabled organisation.

    Example: `rollcall org enable "Acme Odds"`
    """
    _with_org(name, admin.enable)
    terminal.print_done({"name": name, "enabled": True}, f"{name} is enabled", as_json=as_json)


@org.command("limit")
def limit_org(
    name: Name,
    limit: Annotated[str, typer.Argument(help=f"One of: {', '.join(limits.LIMIT_NAMES)}.")],
    value: Annotated[
        float | None,
        typer.Argument(min=0, max=1e12, help="The limit; without it, the default of the settings."),
    ] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Set a limit for an organisation, or go back to the default of the settings.

    Examples: `rollcall org limit "Acme Odds" max_pages 2000`,
    `rollcall org limit "Acme Odds" max_pages`
    """
    if limit not in limits.LIMIT_NAMES:
        raise typer.BadParameter(f"{limit!r} is not one of {', '.join(limits.LIMIT_NAMES)}")
    _with_org(name, lambda pool, found, _: admin.set_limits(pool, found, {limit: value}))
    shown = "the default of the settings" if value is None else f"{value:g}"
    done = {"name": name, "limit": limit, "value": value}
    terminal.print_done(done, f"{name}: {limit} is {shown}", as_json=as_json)


@org.command("usage")
def org_usage(name: Name, *, as_json: terminal.JSON = False) -> None:
    """Show an organisation's limits, what is used of them, and its last months.

    Example: `rollcall org usage "Acme Odds"`
    """
    config = connections.load_config()
    report = _with_org(name, lambda pool, found, now: usage.report(pool, config, found.id, now))
    if as_json:
        terminal.print_json(asdict(report))
        return
    limits_ = [
        {
            "name": line.name,
            "limit": f"{line.limit:g}",
            "used": "" if line.used is None else f"{line.used:g}",
        }
        for line in report.limits
    ]
    terminal.print_rows(limits_, as_json=False)
    if report.months:
        terminal.print_rows(report.months, as_json=False)


@org.command("export")
def export_org(
    name: Name,
    file: Annotated[Path, typer.Argument(help="The zip file, which must not exist yet.")],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Write everything that an organisation has to a zip file of JSON lines, one for each table.

    Hashes of tokens and encrypted secrets are left out.

    Example: `rollcall org export "Acme Odds" acme.zip`
    """

    async def write(pool: Pool, found: Org, _: datetime) -> dict[str, int]:
        with _new_file(file) as opened:
            return await leaving.export(pool, found, opened)

    written = _with_org(name, write)
    rows = [{"table": table, "rows": count} for table, count in written.items()]
    terminal.print_rows(rows, as_json=as_json)


@org.command("delete")
def delete_org(
    name: Name,
    *,
    export: Annotated[
        Path | None, typer.Option(help="First write everything to this new zip file.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask to type the name.")] = False,
    as_json: terminal.JSON = False,
) -> None:
    """Delete an organisation with everything that it has, in Postgres and Redis.

    Prints how many rows there were in each table and how many there are afterwards, and ends with 1
    if any is left.

    Example: `rollcall org delete "Acme Odds" --export acme.zip`
    """
    if not yes:
        terminal.confirm_name(name)

    async def delete(context: CommandContext) -> tuple[dict[str, int], dict[str, int]]:
        found = await admin.find(context.pool, name)
        now = await heartbeats.database_now(context.pool)
        if export is not None:
            with _new_file(export) as file:
                await admin.disable(context.pool, found, now)  # so that nothing is written later
                await leaving.export(context.pool, found, file)
        return await leaving.delete(context.pool, context.redis, found, now)

    before, after = connections.with_servers(delete)
    rows = [
        {"table": table, "before": before.get(table, 0), "after": after.get(table, 0)}
        for table in sorted({*before, *after})
    ]
    terminal.print_rows(rows, as_json=as_json)
    if after:
        raise typer.Exit(1)


@contextmanager
def _new_file(path: Path) -> Generator[IO[bytes]]:
    try:
        with leaving.new_file(path) as file:
            yield file
    except FileExistsError:
        raise typer.BadParameter(f"{path} exists already") from None
    except OSError as error:
        if not is_of_a_file(error):
            raise
        raise FileUnusable.from_error(error, str(path)) from None


@token.command("create")
def create_token(  # noqa: PLR0913 - the options of a command are its arguments
    of: OfOrg = None,
    operator: OfOperator = False,
    scope: Annotated[Scope, typer.Option(help="What the token may do.")] = Scope.READ,
    label: Annotated[
        str, typer.Option(help="Its purpose; its actions are recorded under it.")
    ] = "api",
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="Days until it expires.")
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="It may read the operator's odds and news.")
    ] = False,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Create a token and print it. It is not stored and cannot be printed again.

    Examples: `rollcall token create --org "Acme Odds" --scope operate --days 90`,
    `rollcall token create --operator --scope admin`,
    `rollcall token create --org "Acme Odds" --data`
    """
    _check_owner(of, operator=operator)
    if operator and data:
        raise typer.BadParameter("the operator reads them anyway", param_hint="--data")
    if not label.isprintable() or not label.strip() or len(label) > _MAX_LABEL_LENGTH:
        raise typer.BadParameter(
            f"1 to {_MAX_LABEL_LENGTH} printable characters", param_hint="--label"
        )

    async def create(pool: Pool) -> str:
        now = await heartbeats.database_now(pool)
        expires = None if days is None else now + timedelta(days=days)
        request = access.TokenRequest(of, label, scope, expires, data)
        return await access.create_token(pool, request, now, by=terminal.current_user())

    secret = connections.with_pool(create)
    facts = {"token": secret, "org": of, "scope": scope.value}
    terminal.print_done(facts, secret, as_json=as_json)
    if not as_json:
        sys.stderr.write("Save it now: it is not stored and cannot be shown again.\n")


@token.command("list")
def list_tokens(
    of: OfOrg = None, operator: OfOperator = False, *, as_json: terminal.JSON = False
) -> None:
    """List the tokens of an organisation or of the operator, without their secrets.

    Examples: `rollcall token list --org "Acme Odds"`, `rollcall token list --operator`
    """
    _check_owner(of, operator=operator)
    if of is None:
        tokens = connections.with_pool(lambda pool: orgs.tokens(pool, None))
    else:
        tokens = _with_org(of, lambda pool, found, _: orgs.tokens(pool, found.id))
    rows = [{name: getattr(row, name) for name in _TOKEN_COLUMNS} for row in tokens]
    terminal.print_rows(rows, as_json=as_json)


@token.command("revoke")
def revoke_token(
    token_id: Annotated[UUID, typer.Argument(help="Its id, as `token list` prints it.")],
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Revoke a token. It stops working at once.

    Example: `rollcall token revoke 5f0c7f3e-7f0e-4d0c-9a43-0b9b6f1c2d11`
    """

    async def revoke(pool: Pool) -> bool:
        return await orgs.revoke(pool, token_id, await heartbeats.database_now(pool))

    if not connections.with_pool(revoke):
        raise WrongState(f"there is no valid token {token_id}")
    done = {"id": token_id, "revoked": True}
    terminal.print_done(done, f"{token_id} is revoked", as_json=as_json)


def _check_owner(of: str | None, *, operator: bool) -> None:
    if (of is None) is not operator:
        raise typer.BadParameter("say whose it is: --org NAME or --operator, one of them")


def _with_org(
    name: str, step: Callable[[Pool, Org, datetime], Awaitable[connections.Result]]
) -> connections.Result:
    async def run(pool: Pool) -> connections.Result:
        found = await admin.find(pool, name)
        return await step(pool, found, await heartbeats.database_now(pool))

    return connections.with_pool(run)
