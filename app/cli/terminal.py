"""Shared by the commands: settings, connections, parsing of instants, and output."""

import asyncio
import getpass
import json
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import asyncpg
import typer
from arq.connections import ArqRedis
from pydantic import SecretStr
from redis.exceptions import RedisError

from app.core import config as settings
from app.core import log, printable
from app.core.errors import BadConfig
from app.queue.jobs import redis_pool
from app.store import db, servers

if TYPE_CHECKING:
    from rich.console import Console

Result = TypeVar("Result")
JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The settings, and open connections to Postgres and Redis."""

    config: settings.Config
    pool: db.Pool
    redis: ArqRedis


def load_config() -> settings.Config:
    """Load the settings, and configure logging at level `warning`. Raises BadConfig."""
    loaded = settings.load()
    log.configure(loaded.log_format, "warning", loaded.secrets())
    return loaded


def secret(name: str) -> SecretStr | None:
    """Return the operator's secret of that name from the environment or `.env`, or None."""
    return settings.secret(name)


def with_pool(step: Callable[[db.Pool], Awaitable[Result]]) -> Result:
    """Run the step with an open database pool; returns its result.

    Raises BadConfig if Postgres cannot be reached or has no tables.
    """
    dsn = servers.server_urls(load_config()).database

    async def run() -> Result:
        pool = await db.open_pool(dsn, size=2, wait_seconds=5)
        try:
            return await step(pool)
        finally:
            await pool.close()

    return run_async(run)


def with_servers(step: Callable[[CommandContext], Awaitable[Result]]) -> Result:
    """Run the step with open connections to both servers; returns its result.

    Raises BadConfig if a server cannot be reached or the database has no tables.
    """
    loaded = load_config()
    urls = servers.server_urls(loaded)

    async def run() -> Result:
        redis = redis_pool(urls.redis, ssl_cert_reqs=loaded.redis_ssl_cert_reqs)
        try:
            pool = await db.open_pool(urls.database, size=4, wait_seconds=5)
            try:
                return await step(CommandContext(loaded, pool, redis))
            finally:
                await pool.close()
        finally:
            await redis.aclose(close_connection_pool=True)

    return run_async(run)


def run_async(run: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run the coroutine function in a new event loop; returns its result.

    Raises BadConfig if a server cannot be reached, refuses or has no tables.
    """
    try:
        return asyncio.run(run())
    except db.MISCONFIGURED as error:
        raise BadConfig(f"{error}; is DATABASE_URL right, and has `migrate` been run?") from None
    except BrokenPipeError:
        raise  # an OSError too, but the reader of stdout closed it
    except RedisError as error:
        raise BadConfig(f"Redis cannot be used (REDIS_URL): {error}") from None
    except db.UNAVAILABLE as error:
        raise BadConfig(f"Postgres cannot be reached (DATABASE_URL): {error}") from None
    except asyncpg.PostgresError as error:
        raise BadConfig(f"Postgres refuses: {error}") from None


def current_user() -> str:
    """Return the operating system user to record as the requester, or `somebody`."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return "somebody"


def print_json(value: object) -> None:
    """Print the value as one line of JSON: instants in ISO 8601, ids and decimals as text."""
    sys.stdout.write(json.dumps(value, default=_json_default) + "\n")
    sys.stdout.flush()


def _json_default(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def print_table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print the rows as a table; instants in UTC, to the second, without the year."""
    from rich.table import Table  # noqa: PLC0415 - not imported for `--json`

    table = Table(box=None, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name.replace("_", " "), no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(_format_cell(row.get(name)) for name in columns))
    console().print(table)


def console() -> "Console":
    """Return the console for tables: 240 columns wide if stdout is not a terminal."""
    from rich.console import Console  # noqa: PLC0415 - not imported for `--json`

    default = Console(highlight=False, markup=False)
    return default if default.is_terminal else Console(highlight=False, markup=False, width=240)


def _format_cell(value: object) -> str:
    return (
        f"{value.astimezone(UTC):%m-%d %H:%M:%S}"
        if isinstance(value, datetime)
        else format_value(value)
    )


def clean(text: str) -> str:
    """Replace characters that a terminal interprets: escape sequences, controls, direction marks.

    Every scraped text is printed through this function.
    """
    return printable.lines(text)


def markup(value: object) -> str:
    """Format a value for a rich console that reads markup: it is printed as it is."""
    from rich.markup import escape  # noqa: PLC0415 - not imported for `--json`

    return escape(clean(str(value)))


def write_line(text: str) -> None:
    """Write a line to stdout without characters that a terminal interprets."""
    sys.stdout.write(f"{clean(text)}\n")
    sys.stdout.flush()


def format_value(value: object) -> str:
    """Format a value for people: instants in UTC, floats with two decimals, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.2f}"
    return clean(str(value))


def parse_instant_or_age(text: str, now: datetime) -> datetime:
    """Parse an instant or an age such as `90m`, `2h`, `1d`; returns UTC.

    Raises typer.BadParameter.
    """
    age = _AGE.fullmatch(text.strip())
    if age is None:
        return parse_instant(text)
    return now - timedelta(seconds=float(age[1]) * _UNIT_SECONDS[age[2]])


def parse_instant(text: str) -> datetime:
    """Parse an ISO 8601 instant, in UTC unless it has an offset. Raises typer.BadParameter."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an instant; try 2026-09-05T14:00:00Z") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
