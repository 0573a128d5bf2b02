"""A small shop on loopback, and a worker context that reads recipes of it."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from app.context import WorkerContext
from app.runs.leases import Leases
from tests import worker_harness
from tests.fetch.hostile import Visit, serving
from workers import source
from workers.execute import execute

SIZE = 3


def ware(number: int, **changes: Any) -> dict[str, Any]:
    """One ware of the shop."""
    known = {"id": number, "name": f"ware {number}", "price": {"amount": f"{number}.50"}}
    return known | {"at": f"2026-09-05T12:00:{number:02}Z"} | changes


@dataclass
class Shop:
    """Serves `wares` three a page as JSON; `paths` say anything else. Notes what was asked."""

    wares: list[dict[str, Any]] = field(default_factory=lambda: [ware(n) for n in range(1, 8)])
    paths: dict[str, tuple[str, bytes, dict[str, str]]] = field(
        default_factory=dict[str, tuple[str, bytes, dict[str, str]]]
    )
    asked: list[str] = field(default_factory=list[str])
    heads: list[str] = field(default_factory=list[str])
    past_the_end: str = "200 OK"
    base: str = ""

    async def __call__(self, visit: Visit) -> None:
        parts = urlsplit(visit.path)
        self.asked.append(visit.path)
        self.heads.append(visit.head)
        if parts.path in self.paths:
            status, body, headers = self.paths[parts.path]
            await visit.answer(status, body, **headers)
        elif parts.path == "/robots.txt":
            await visit.answer("404 Not Found", b"")
        else:
            await self._page(visit, parse_qs(parts.query))

    async def _page(self, visit: Visit, query: dict[str, list[str]]) -> None:
        page = int(query.get("page", ["1"])[0])
        rows = self.wares[(page - 1) * SIZE : page * SIZE]
        result = {"items": rows, "total": len(self.wares)}
        await visit.answer("200 OK" if rows else self.past_the_end, json.dumps(result).encode())


@asynccontextmanager
async def open_shop(shop: Shop) -> AsyncGenerator[Shop]:
    """The shop, open on loopback."""
    async with serving(shop) as base:
        shop.base = base
        yield shop


def write(folder: Path, name: str, text: str) -> None:
    """Put a recipe into the folder."""
    (folder / f"{name}.toml").write_text(text, "utf-8")


async def ask(context: WorkerContext, name: str, leases: Leases | None = None) -> UUID:
    """One run of that source, by hand; returns its id."""
    ctx = worker_harness.ctx_of(context, leases=leases)
    await execute(ctx, source.collect_recipe, params={"source": name})
    (run_id,) = await context.pool.fetch(
        "SELECT execution_id FROM runs ORDER BY created_at DESC, queued_at DESC LIMIT 1"
    )
    return run_id[0]


async def items(context: WorkerContext) -> list[dict[str, Any]]:
    """The items that are kept, by key."""
    return [
        dict(row) for row in await context.pool.fetch("SELECT * FROM items ORDER BY source, key")
    ]


def bare(row: dict[str, Any]) -> tuple[Any, ...]:
    """An item without what differs from run to run: when, and by which."""
    return (row["source"], row["key"], row["series"], row["data"], row["missing_since"] is not None)
