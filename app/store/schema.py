"""Which schema the database has, held against the one that this code was written for."""

from pathlib import Path

import asyncpg

from app.errors import WrongSchema
from app.store.db import Connection, Pool

VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"


def wanted() -> str:
    """The newest revision that this code knows: its migrations are numbered."""
    return max(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


async def found(connection: Pool | Connection) -> str | None:
    """The revision that the database has; None if it has no tables of ours."""
    try:
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return revision


async def check(connection: Pool | Connection) -> None:
    """Raises WrongSchema unless the database has just the schema that this code wants."""
    fault = judged(await found(connection), wanted())
    if fault is not None:
        raise WrongSchema(fault)


def judged(has: str | None, wants: str) -> str | None:
    """What is wrong, and what mends it; None if nothing is."""
    if has == wants:
        return None
    if has is None:
        return (
            f"The database has no schema yet, and this code wants {wants}: "
            "run `python -m app migrate`."
        )
    if has < wants:
        return (
            f"The database's schema is {has}, and this code wants {wants}, which is newer: "
            "run `python -m app migrate` (on Heroku the release phase does)."
        )
    return (
        f"The database's schema is {has}, and this code knows only {wants}, which is older: "
        "start the newer code, or restore the backup that fits this one."
    )
