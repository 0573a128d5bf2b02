"""The `secret` commands: the key of organisations' secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from app.cli import connections, terminal
from app.orgs import secret_box, secrets
from app.store.schedules import heartbeats

if TYPE_CHECKING:
    from app.store.db import Pool

app = typer.Typer(help="Secrets of organisations.", no_args_is_help=True)


@app.callback()
def secret() -> None:
    """Secrets of organisations."""


@app.command()
def reseal(*, as_json: terminal.JSON = False) -> None:
    """Encrypt every organisation's secrets with the first key of SECRETS_KEY.

    The last step of a rotation, after every process has the new key. The other keys can be removed
    afterwards. Collections go on meanwhile.

    Example: `rollcall secret reseal`
    """
    box = secret_box.from_config(connections.load_config())

    async def apply(pool: Pool) -> int:
        return await secrets.reseal(pool, box, await heartbeats.database_now(pool))

    count = connections.with_pool(apply)
    text = (
        f"every secret is encrypted with the first key now ({count} were not);"
        " the other keys can be removed"
    )
    terminal.print_done({"resealed": count}, text, as_json=as_json)
