"""How many rows statements read of tables, told by their plans."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from app.store.db import Connection, Pool
from app.store.tenancy import transaction

Read = Callable[[Connection], Awaitable[Any]]


async def rows_scanned(pool: Pool, read: Read, tables: Collection[str]) -> list[float]:
    """How many rows each scan of one of the tables read, per loop, in the statements of `read`.

    What they write is rolled back.
    """
    executed: list[Any] = []
    async with transaction(pool, None) as connection:
        attempt = connection.transaction()
        await attempt.start()
        with connection.query_logger(executed.append):
            await read(connection)
            await asyncio.sleep(0)  # asyncpg logs in a callback
        await attempt.rollback()
        return [
            rows
            for each in executed
            if not each.query.lstrip().startswith("SELECT set_config")
            for rows in _rows(
                await connection.fetchval(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) {each.query}", *each.args
                ),
                tables,
            )
        ]


def _rows(text: str, tables: Collection[str]) -> list[float]:
    (plan,) = json.loads(text)
    found: list[float] = []
    nodes = [plan["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        if node.get("Relation Name") in tables:
            found.append(node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return found
