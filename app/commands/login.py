"""The `login` command: print a one-time sign-in address for the dashboard."""

import sys
from typing import Annotated

import typer

from app import once, terminal
from app.terminal import Reach

app = typer.Typer()


@app.command()
def login(
    base: Annotated[
        str, typer.Option(help="The base URL of the dashboard.")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Print an address that signs in once, as the local organisation. Valid for ten minutes.

    Example: `python -m app login --base https://rollcall.example.org`
    """

    async def create(context: Reach) -> str:
        return await once.mint(context.redis)

    path = terminal.with_servers(create)
    sys.stdout.write(f"{base.rstrip('/')}{path}\n")
