"""Statements on a database that is upgraded."""

import asyncpg

from app.store.db import OPERATOR_SESSION


async def executed(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
