"""The schema's history, and the way up and down it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from app.store import db, schema
from app.store.content import changes

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent


def upgrade(dsn: str, revision: str = "head") -> None:
    """Bring the database up to `revision`. Two at once wait for each other.

    A database that is at the newest one already is left alone, without importing Alembic, which
    takes 40 MB and most of a start. The feed of a database at the newest one goes on after that of
    the server from which it was restored.
    """
    newest = revision == "head"
    if newest and asyncio.run(_is_ready(dsn)):
        return
    from alembic import command  # noqa: PLC0415 - see above

    command.upgrade(_config(dsn), revision)
    if newest:
        asyncio.run(_is_ready(dsn))


async def _is_ready(dsn: str) -> bool:
    """Return whether the schema is current; if it is, the feed's positions go on."""
    try:
        connection = await db.connect(dsn, {})
        try:
            current = await schema.database_revision(connection) == schema.required_revision()
            if current:
                await changes.continue_clock(connection)
            return current
        finally:
            await connection.close()
    except (*db.UNAVAILABLE, *db.MISCONFIGURED):
        return False  # Alembic says what is wrong


def downgrade(dsn: str, revision: str) -> None:
    """Take the database back to `revision`."""
    from alembic import command  # noqa: PLC0415 - see `upgrade`

    command.downgrade(_config(dsn), revision)


def _config(dsn: str) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - see `upgrade`

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.attributes["dsn"] = dsn
    return config
