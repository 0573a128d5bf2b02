"""A migrated database that tests take in turn, emptied between them over one connection.

Copying a template costs about half a second, emptying some hundredths of one. A database whose
schema a test changed, or that has grown large, is dropped and copied again.
"""

import asyncio
import io
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg

from app.embedded import Servers
from tests import servers as real

LARGE_BYTES = 4_000_000

# A change of the schema rewrites one of these rows; statistics are updated in place.
SCHEMA = """
SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
  SELECT concat('class', oid, xmin) AS part FROM pg_class WHERE oid >= 16384
  UNION ALL SELECT concat('column', attrelid, attnum, xmin) FROM pg_attribute
            WHERE attrelid >= 16384
  UNION ALL SELECT concat('constraint', oid, xmin) FROM pg_constraint WHERE oid >= 16384
  UNION ALL SELECT concat('default', oid, xmin) FROM pg_attrdef
  UNION ALL SELECT concat('index', indexrelid, xmin) FROM pg_index WHERE indexrelid >= 16384
  UNION ALL SELECT concat('function', oid, xmin) FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT concat('trigger', oid, xmin) FROM pg_trigger
  UNION ALL SELECT concat('policy', oid, xmin) FROM pg_policy
  UNION ALL SELECT concat('setting', setdatabase, setrole, xmin) FROM pg_db_role_setting
) AS parts
"""
# By their files: pg_relation_size would load what a new session does not know yet of every table.
WRITTEN = """
SELECT c.oid::regclass::text AS name, file.size AS bytes
FROM pg_class c
CROSS JOIN (SELECT oid FROM pg_database WHERE datname = current_database()) AS here
CROSS JOIN pg_stat_file(format('base/%s/%s', here.oid, c.relfilenode), true) AS file
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND file.size > 0
"""
SEQUENCES = """
SELECT s.seqrelid::regclass::text AS name, s.seqstart AS first,
       pg_sequence_last_value(s.seqrelid) AS last
FROM pg_sequence s ORDER BY 1
"""
# Without a timeout: Postgres would look for the end of each only every 100 ms.
DISCONNECT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_get_activity(NULL)
WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class _Pristine:
    """What the copy holds before any test: its schema, the rows of each table, its sequences."""

    schema: str
    rows: dict[str, bytes]
    sequences: dict[str, tuple[int, int | None]]


class Databases:
    """The database of this process, copied from `template` when there is none that is clean.

    Its methods are called between the loops of tests, and have a loop of their own: what a new
    session of Postgres must read is a third of the time.
    """

    def __init__(self, servers: Servers, template: str) -> None:
        self._servers = servers
        self._template = template
        self._loop = asyncio.new_event_loop()
        self._name: str | None = None
        self._pristine: _Pristine | None = None
        self._connection: asyncpg.Connection[Any] | None = None

    def take(self) -> str:
        """The DSN of a database with the schema and nothing in it."""
        if self._name is None:
            self._name = self._loop.run_until_complete(self._copied())
        return real.database_url(self._servers, self._name)

    def give_back(self) -> None:
        """Disconnect everybody and empty the database; drop it if it cannot be emptied."""
        emptied = False
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # gone, by the test
            emptied = self._loop.run_until_complete(self._emptied())
        if not emptied:
            self._drop()

    def close(self) -> None:
        self._drop()
        self._loop.close()

    def _drop(self) -> None:
        with ThreadPoolExecutor(1) as thread:  # a loop may run in this one
            thread.submit(self._loop.run_until_complete, self._dropped()).result()

    async def _dropped(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        if self._name is not None:
            await real.drop_database(self._servers, self._name)
            self._name = self._pristine = None

    async def _copied(self) -> str:
        name = f"test_{uuid4().hex}"
        url = await real.create_database(self._servers, name, template=self._template)
        self._connection = await asyncpg.connect(url.replace("//rollcall@", "//postgres@", 1))
        self._pristine = await _pristine(self._connection)
        return name

    async def _emptied(self) -> bool:
        connection = self._connection
        assert connection is not None
        assert self._pristine is not None
        while await connection.fetchval(DISCONNECT):  # noqa: ASYNC110 - Postgres has no event for it
            await asyncio.sleep(0.005)
        tables = await connection.fetch(WRITTEN)
        if sum(table["bytes"] for table in tables) > LARGE_BYTES:
            return False
        if await connection.fetchval(SCHEMA) != self._pristine.schema:
            return False
        async with connection.transaction():
            # Neither triggers nor foreign keys: the rows of all tables go.
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(
                "".join(f"DELETE FROM {table['name']};" for table in tables)  # noqa: S608 - names of tables
            )
            for table, rows in self._pristine.rows.items():
                await connection.copy_to_table(table, source=_whole(rows))
            for row in await connection.fetch(SEQUENCES):
                first, last = self._pristine.sequences[row["name"]]
                if row["last"] != last:
                    await connection.execute(
                        "SELECT setval($1::text::regclass, $2, $3)",
                        row["name"], first if last is None else last, last is not None,
                    )  # fmt: skip
        return True


async def _whole(rows: bytes) -> AsyncGenerator[bytes]:
    yield rows  # a file would be read in a thread


async def _pristine(connection: "asyncpg.Connection[Any]") -> _Pristine:
    rows: dict[str, bytes] = {}
    for table in await connection.fetch(WRITTEN):
        copy = io.BytesIO()
        await connection.copy_from_table(table["name"], output=copy)
        rows[table["name"]] = copy.getvalue()
    sequences = {
        row["name"]: (row["first"], row["last"]) for row in await connection.fetch(SEQUENCES)
    }
    return _Pristine(await connection.fetchval(SCHEMA), rows, sequences)
