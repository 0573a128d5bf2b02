"""The `login` command: print a one-time sign-in address for the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import connections, terminal
from app.core import setting_types
from app.orgs import one_time_login

if TYPE_CHECKING:
    from app.cli.connections import CommandContext

app = typer.Typer()


@app.command()
def login(
    base: Annotated[
        str | None,
        typer.Option(help="The base URL of the dashboard; default: PUBLIC_URL, or port 8000 here."),
    ] = None,
    *,
    as_json: terminal.JSON = False,
) -> None:
    """Print an address that signs in once, as the operator. Valid for ten minutes.

    Example: `rollcall login --base https://rollcall.example.org`
    """

    try:
        address = None if base is None else setting_types.base_url(base)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--base") from None

    async def create(context: CommandContext) -> str:
        at = address or context.config.public_url or "http://127.0.0.1:8000"
        return f"{at.rstrip('/')}{await one_time_login.create_login(context.redis)}"

    url = connections.with_servers(create)
    terminal.print_done({"url": url}, url, as_json=as_json)
