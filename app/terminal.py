"""What the commands share: settings, servers while a step lasts, and instants as they are typed."""

import asyncio
import getpass
import json
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from arq.connections import ArqRedis
from pydantic import SecretStr
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from app import config as settings
from app import log, resources
from app.errors import BadConfig
from app.queue import redis_pool
from app.store import db

Result = TypeVar("Result")
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Reach:
    """Both servers, open, and the settings."""

    config: settings.Config
    pool: db.Pool
    redis: ArqRedis


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

    return doing(run)


def with_servers(step: Callable[[Reach], Awaitable[Result]]) -> Result:
    """Do the step with both servers open. Raises BadConfig when one is away or has no tables."""
    own = config()
    where = resources.urls(own)

    async def run() -> Result:
        redis = redis_pool(where.redis, ssl_cert_reqs=own.redis_ssl_cert_reqs)
        try:
            pool = await db.open_pool(where.database, size=4, patience=5)
            try:
                return await step(Reach(own, pool, redis))
            finally:
                await pool.close()
        finally:
            await redis.aclose(close_connection_pool=True)

    return doing(run)


def doing(run: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run it to its end. Raises BadConfig when a server is away, refuses or has no tables."""
    try:
        return asyncio.run(run())
    except db.UNFIT as error:
        raise BadConfig(f"{error}; is DATABASE_URL right, and has `migrate` been run?") from None
    except BrokenPipeError:
        raise  # an OSError too, but whoever reads has had enough
    except RedisError as error:
        raise BadConfig(f"Redis cannot be used (REDIS_URL): {error}") from None
    except db.AWAY as error:
        raise BadConfig(f"Postgres cannot be reached (DATABASE_URL): {error}") from None
    except asyncpg.PostgresError as error:
        raise BadConfig(f"Postgres refuses: {error}") from None


def user() -> str:
    """Whom to record as the one who asked."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return "somebody"


def print_json(value: object) -> None:
    """One line of JSON: instants in ISO 8601, ids and decimals as text."""
    sys.stdout.write(json.dumps(value, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def print_table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Rows as a table for people; instants to the second, in UTC, without their year."""
    table = Table(box=None, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name.replace("_", " "), no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(_brief(row.get(name)) for name in columns))
    console().print(table)


def console() -> Console:
    """Where tables go. What is piped on is not squeezed into eighty columns."""
    found = Console(highlight=False, markup=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, width=240)


def _brief(value: object) -> str:
    return (
        f"{value.astimezone(UTC):%m-%d %H:%M:%S}" if isinstance(value, datetime) else shown(value)
    )


def shown(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value)


def since(text: str, now: datetime) -> datetime:
    """An instant, or how long ago: `90m`, `2h`, `1d`. Raises typer.BadParameter."""
    ago = _AGO.fullmatch(text.strip())
    if ago is None:
        return instant(text)
    return now - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])


def instant(text: str) -> datetime:
    """An ISO 8601 instant; without a zone it is UTC. Raises typer.BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no instant; try 2026-09-05T14:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
