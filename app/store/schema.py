"""Comparison of the database's schema revision with the one that this code requires."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import asyncpg

from app.core.errors import WrongSchema
from app.store.db import Connection, Pool

_REVISION = re.compile(r'^revision = "(.+)"$', re.MULTILINE)
_DOWN_REVISION = re.compile(r'^down_revision = (None|".+")$', re.MULTILINE)
VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"


@cache
def known_revisions() -> tuple[str, ...]:
    """Return the revisions of the migrations in this code, oldest first."""
    texts = [path.read_text("utf-8") for path in VERSIONS.glob("[0-9]*_*.py")]
    successors = {_DOWN_REVISION.findall(text)[0]: _REVISION.findall(text)[0] for text in texts}
    chain: list[str] = []
    while (successor := successors.get(f'"{chain[-1]}"' if chain else "None")) is not None:
        chain.append(successor)
    return tuple(chain)


def required_revision() -> str:
    """Return the newest revision, which this code requires."""
    return known_revisions()[-1]


async def database_revision(connection: Pool | Connection) -> str | None:
    """Return the revision of the database; None if it has not been migrated."""
    try:
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return revision


async def check(connection: Pool | Connection) -> None:
    """Raise WrongSchema unless the database has exactly the required revision."""
    problem = revision_error(await database_revision(connection), known_revisions())
    if problem is not None:
        raise WrongSchema(problem)


def revision_error(has: str | None, revisions: Sequence[str]) -> str | None:
    """Return the error message with its remedy; None if the revision is right.

    `has`: the database's revision. `revisions`: those of this code, in order.
    """
    required = revisions[-1]
    if has == required:
        return None
    if has is None:
        return (
            f"The database has no schema yet, and this code requires {required}: "
            "run `rollcall migrate`."
        )
    if has in revisions:
        return (
            f"The database's schema is {has}, and this code requires {required}, which is newer: "
            "run `rollcall migrate` (on Heroku the release phase does)."
        )
    return (
        f"The database's schema is {has}, and this code knows only {required}, which is older: "
        f"start the newer code, or restore a backup with schema {required}."
    )
