"""The `migrate` command: upgrade the database schema."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from app import migrations
from app.cli import connections, terminal
from app.core.errors import WrongSchema
from app.store import schema, servers

if TYPE_CHECKING:
    from app.core.config import Config

app = typer.Typer()


@app.command()
def migrate(*, as_json: terminal.JSON = False) -> None:
    """Upgrade the database schema to the latest revision.

    Example: `rollcall migrate`
    """
    upgrade(connections.load_config())
    revision = schema.required_revision()
    terminal.print_done({"schema": revision}, f"the schema is {revision}", as_json=as_json)


def upgrade(config: Config) -> None:
    """Upgrade the schema of the configured database. Raises BadConfig and WrongSchema."""
    if config.database_url is None:
        servers.server_urls(config)  # starting the private servers upgrades their schema
    else:
        with connections.server_errors(), _migration_errors():
            migrations.upgrade(config.database_url.get_secret_value())


@contextmanager
def _migration_errors() -> Generator[None]:
    """Raise asyncpg's error instead of SQLAlchemy's, and WrongSchema for an unknown revision."""
    from alembic.util import CommandError  # noqa: PLC0415 - only if something is to be migrated
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - as above

    try:
        yield
    except DBAPIError as error:
        cause = error.orig and error.orig.__cause__
        raise cause or error from None
    except CommandError as error:
        raise WrongSchema(f"{error}: start the newer code, or restore a backup") from None
