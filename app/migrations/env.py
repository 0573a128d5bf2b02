"""How Alembic reaches the database: through asyncpg, like everything else."""

import asyncio
from typing import Any
from uuid import uuid4

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.core import config as settings
from app.core.errors import BadConfig
from app.migrations.tables import tables
from app.store import db

# Partitions come and go with time, and no model declares them.
PARTITIONS = """
SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'
"""


def _migrate(connection: Connection) -> None:
    parts = set(connection.scalars(text(PARTITIONS)))
    connection.rollback()  # or Alembic would take the transaction that this began for its caller's
    context.configure(
        connection=connection,
        target_metadata=tables,
        compare_type=True,
        # The parts of a partitioned table come and go; the models know the whole.
        include_name=lambda name, kind, _: kind != "table" or name not in parts,
    )
    with context.begin_transaction():
        # Two processes that start at once must not both create the tables. Through a pooler, a lock
        # of the session would outlive this connection.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('rollcall.migrations'))"))
        context.run_migrations()


async def _connect_and_migrate(dsn: str) -> None:
    def connect() -> Any:
        # Through a pooler, the server may know the names of another client's statements.
        return engine.sync_engine.dialect.dbapi.connect(  # pyright: ignore[reportOptionalMemberAccess]
            async_creator_fn=lambda: db.connect(dsn, {}),
            prepared_statement_cache_size=0,
            prepared_statement_name_func=lambda: f"rollcall_{uuid4().hex}",
        )

    engine = create_async_engine("postgresql+asyncpg://", creator=connect, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


def _dsn() -> str:
    handed_in = context.config.attributes.get("dsn")
    if handed_in is not None:
        return str(handed_in)
    configured = settings.load().database_url
    if configured is None:
        raise BadConfig("DATABASE_URL is not set: use `rollcall migrate`")
    return configured.get_secret_value()


asyncio.run(_connect_and_migrate(_dsn()))
