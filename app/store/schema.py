"""Which schema the database has, held against the one that this code was written for."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import asyncpg

from app.errors import WrongSchema
from app.store.db import Connection, Pool

_NAME = re.compile(r'^revision = "(.+)"$', re.MULTILINE)
_BEFORE = re.compile(r'^down_revision = (None|".+")$', re.MULTILINE)
VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"


@cache
def known() -> tuple[str, ...]:
    """The revisions that this code knows, from the first to the newest."""
    texts = [path.read_text("utf-8") for path in VERSIONS.glob("[0-9]*_*.py")]
    after = {_BEFORE.findall(text)[0]: _NAME.findall(text)[0] for text in texts}
    chain: list[str] = []
    while (following := after.get(f'"{chain[-1]}"' if chain else "None")) is not None:
        chain.append(following)
    return tuple(chain)


def wanted() -> str:
    """The newest revision that this code knows."""
    return known()[-1]


async def found(connection: Pool | Connection) -> str | None:
    """The revision that the database has; None if it has no tables of ours."""
    try:
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return revision


async def check(connection: Pool | Connection) -> None:
    """Raises WrongSchema unless the database has just the schema that this code wants."""
    fault = judged(await found(connection), known())
    if fault is not None:
        raise WrongSchema(fault)


def judged(has: str | None, revisions: Sequence[str]) -> str | None:
    """What is wrong, and what mends it; None if nothing is. `revisions`: known, in order."""
    wants = revisions[-1]
    if has == wants:
        return None
    if has is None:
        return (
            f"The database has no schema yet, and this code wants {wants}: "
            "run `python -m app migrate`."
        )
    if has in revisions:
        return (
            f"The database's schema is {has}, and this code wants {wants}, which is newer: "
            "run `python -m app migrate` (on Heroku the release phase does)."
        )
    return (
        f"The database's schema is {has}, and this code knows only {wants}, which is older: "
        "start the newer code, or restore the backup that fits this one."
    )
