"""The door of the dashboard, from a terminal: `login`."""

import sys
from typing import Annotated

import typer

from app import once, terminal
from app.terminal import Reach

app = typer.Typer()


@app.command()
def login(
    base: Annotated[str, typer.Option(help="Where the page is.")] = "http://127.0.0.1:8000",
) -> None:
    """Print an address that signs in once, within ten minutes, as the local organisation.

    Example: `python -m app login --base https://rollcall.example.org`
    """

    async def mint(reach: Reach) -> str:
        return await once.mint(reach.redis)

    path = terminal.with_servers(mint)
    sys.stdout.write(f"{base.rstrip('/')}{path}\n")
