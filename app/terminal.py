"""What the commands share: settings, a pool while a step lasts, and instants as they are typed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import typer
from pydantic import SecretStr

from app import config as settings
from app import log, resources
from app.errors import BadConfig
from app.store import db

Result = TypeVar("Result")


def config() -> settings.Config:
    """The settings; only what goes wrong is logged from here on."""
    found = settings.load()
    log.configure(found.log_format, "warning", found.secrets())
    return found


def secret(name: str) -> SecretStr | None:
    """The operator's secret of that name, from the environment or `.env`."""
    return settings.secret(name)


def with_pool(step: Callable[[db.Pool], Awaitable[Result]]) -> Result:
    """Do the step with the database open. Raises BadConfig when it is away or has no tables."""
    dsn = resources.urls(config()).database

    async def run() -> Result:
        pool = await db.open_pool(dsn, size=2, patience=5)
        try:
            return await step(pool)
        finally:
            await pool.close()

    try:
        return asyncio.run(run())
    except db.UNFIT as error:
        raise BadConfig(f"{error}; is DATABASE_URL right, and has `migrate` been run?") from None
    except db.AWAY as error:
        raise BadConfig(f"Postgres cannot be reached (DATABASE_URL): {error}") from None


def instant(text: str) -> datetime:
    """An ISO 8601 instant; without a zone it is UTC. Raises typer.BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no instant; try 2026-09-05T14:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
