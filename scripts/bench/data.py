"""Measures each page of collected data, with ten million price changes and a million items.

Pages are requested in this process, on private servers. Milliseconds from request to last byte:
`first_ms` of the first request, `ms` the median of the others, `cpu_ms` what that costs this
process in CPU. `statements`: how many statements of SQL a request takes, its session included.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from app.core.config import Config
from app.core.enums import Scope
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.store.content import partitions
from app.store.db import Pool, open_pool
from app.web.application import create_app
from scripts.bench.odds_plans import EVENTS, FILL_CHANGES, FILL_EVENTS, FILL_PRICES

BULK = 3600.0  # seconds
FILL = (
    """
    INSERT INTO items (source, key, data, content_hash, first_seen, last_seen, changed_at)
    SELECT 'source_' || n % 20, n::text,
           jsonb_build_object('title', 'Title ' || n, 'price', n % 977, 'text', repeat('x', 80)),
           '\\x01', $1, $1, $1::timestamptz - n * interval '1 second'
    FROM generate_series(1, $2::int) n
    """,
    """
    INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language,
                          country, published_at, sentiment, categories, keywords, entities,
                          first_seen_at, updated_at, run_id)
    SELECT 'asknews', n::text, 'https://example.org/', 'Title ' || n, '', 'Paper', '', 'en', '',
           $1::timestamptz - n * interval '30 seconds', n % 3 - 1, '{}', '{}', '{}', $1, $1,
           gen_random_uuid()
    FROM generate_series(1, $2::int / 5) n
    """,
    """
    INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses, max_attempts,
                      timeout_seconds, lease_epoch, queued_at, started_at, completed_at,
                      duration_seconds, stats, created_at)
    SELECT gen_random_uuid(), 'job', 'manual', '{}', 'success', 1, 0, 3, 240, 1, at, at, at, 1,
           '{}', at
    FROM generate_series(1, $2::int / 10) n
    CROSS JOIN LATERAL (SELECT $1::timestamptz - n * interval '1 minute' AS at) a
    """,
    """
    INSERT INTO rejected_records (execution_id, source, partition, page, reason, data, created_at)
    SELECT execution_id, 'source_' || n, 'all', 1, 'no price', '{}', created_at
    FROM runs CROSS JOIN generate_series(1, greatest($2::int / 500000, 1)) n
    WHERE created_at <= $1
    """,
)


@dataclass(frozen=True, slots=True)
class PageFigures:
    """The cost of one page."""

    page: str
    first_ms: float
    ms: float
    cpu_ms: float
    statements: int
    kilobytes: float


def main() -> int:
    asked = _parse_arguments()
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        servers = embedded.start(Path(folder))
        try:
            migrations.upgrade(servers.database_url)
            figures = asyncio.run(_measure(servers, asked))
        finally:
            servers.close()
    show(figures)
    if asked.json:
        print(json.dumps({"data": [asdict(page) for page in figures]}), flush=True)
    return 0 if all(page.ms < asked.limit for page in figures) else 1


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--changes", type=int, default=10_000_000, help="of prices")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=100, help="milliseconds; more exits with 1")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    return parser.parse_args()


async def _measure(servers: embedded.Servers, asked: argparse.Namespace) -> list[PageFigures]:
    pool = await open_pool(servers.database_url, size=2)
    try:
        await fill(pool, asked.changes, asked.items)
        return await _request(servers, pool, asked.rounds)
    finally:
        pool.terminate()


async def fill(pool: Pool, changes: int, items: int) -> None:
    """Write so many price changes and items, and the other rows that the pages show."""
    now = datetime.now(UTC)
    Console(stderr=True).print(f"Writing {changes:,} changes ...", highlight=False)
    await partitions.create_upcoming(pool, now)
    await pool.execute(FILL_EVENTS, now, EVENTS, timeout=BULK)
    await pool.execute(FILL_PRICES, now, timeout=BULK)
    each = max(changes // EVENTS, 1)
    begin = now - timedelta(minutes=10 * each)
    await pool.execute(FILL_CHANGES, begin, each, timeout=BULK)
    for statement in FILL:
        await pool.execute(statement, now, items, timeout=BULK)
    await pool.execute("VACUUM ANALYZE", timeout=BULK)


async def paths(pool: Pool) -> list[str]:
    """The pages that are measured."""
    item = await pool.fetchval("SELECT id FROM items WHERE source = 'source_3' LIMIT 1")
    day = datetime.now(UTC) + timedelta(days=5)
    return [
        "/data/odds",
        f"/data/odds?day={day:%Y-%m-%d}&competition=League 7",
        "/data/odds?teams=nobody",
        "/data/matches/77?market=1x2&outcome=home",
        "/data/articles",
        "/data/articles?q=nothing",
        "/data/stories",
        "/data/items",
        "/data/items/source_3",
        "/data/items/source_3?order=key",
        "/data/items/source_3?order=price",
        "/data/items/source_3?q=nothing",
        f"/data/item/{item}/source_3",
        "/data/rejected",
        "/data/rejected?source=none",
    ]


async def _request(servers: embedded.Servers, pool: Pool, rounds: int) -> list[PageFigures]:
    config = Config(
        database_url=SecretStr(servers.database_url), redis_url=SecretStr(servers.redis_url)
    )
    request = TokenRequest(None, "bench", Scope.READ)
    token = await tokens.create_token(pool, request, datetime.now(UTC), by="bench")
    app = create_app(config)
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": state}, receive, send)

        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            answer = await client.post("/login", data={"token": token})
            if not answer.is_redirect:
                raise SystemExit(answer.text)
            return [await figures_of(client, path, rounds) for path in await paths(pool)]


async def figures_of(
    client: httpx.AsyncClient, path: str, rounds: int, name: str = ""
) -> PageFigures:
    """The cost of a page that is requested so often. `name`: under which it is shown."""
    statements: list[str] = []
    spent: list[float] = []
    cpu: list[float] = []
    size = 0
    for _ in range(rounds):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        with _counted(statements):
            answer = await client.get(path)
        spent.append((time.perf_counter() - begin) * 1000)
        cpu.append((time.process_time() - begin_cpu) * 1000)
        if not answer.is_success:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text}")
        size = len(answer.content)
    return PageFigures(
        name or path,
        round(spent[0], 1),
        round(median(spent[1:] or spent), 1),
        round(median(cpu[1:] or cpu), 1),
        len(statements) // rounds,
        round(size / 1024, 1),
    )


@contextmanager
def _counted(found: list[str]) -> Generator[None]:
    """Note the statements that connections of asyncpg execute in the body."""
    connections: Any = asyncpg.Connection
    original = connections._execute  # noqa: SLF001 - all fetches pass through it

    async def execute(connection: Any, query: str, *args: Any, **options: Any) -> Any:
        found.append(query)
        return await original(connection, query, *args, **options)

    connections._execute = execute  # noqa: SLF001 - as above
    try:
        yield
    finally:
        connections._execute = original  # noqa: SLF001 - as above


def show(figures: Sequence[PageFigures]) -> None:
    """Print a table of the pages."""
    table = Table(title="Pages of collected data")
    for column in ("page", "first_ms", "ms", "cpu_ms", "statements", "kilobytes"):
        table.add_column(column, justify="left" if column == "page" else "right")
    for page in figures:
        table.add_row(*map(str, asdict(page).values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
