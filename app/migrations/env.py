"""How Alembic reaches the database: through asyncpg, like everything else."""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.core import config as settings
from app.core.errors import BadConfig
from app.models import tables
from app.store.db import OPERATOR_SESSION

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
        context.run_migrations()


async def _connect_and_migrate(dsn: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, server_settings=OPERATOR_SESSION),
        poolclass=NullPool,
    )
    async with engine.connect() as connection:
        # Two processes that start at once must not both create the tables.
        await connection.execute(text("SELECT pg_advisory_lock(hashtext('rollcall.migrations'))"))
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


def _dsn() -> str:
    handed_in = context.config.attributes.get("dsn")
    if handed_in is not None:
        return str(handed_in)
    configured = settings.load().database_url
    if configured is None:
        raise BadConfig("DATABASE_URL is not set: use python -m app migrate")
    return configured.get_secret_value()


asyncio.run(_connect_and_migrate(_dsn()))
