"""Organisations that attack the API, each with a token of its own, as fast as they are let."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

import httpx

from scripts.drill.hostile_sites import ATTACKS

SLOW = r"(?i)" + r"[\u0000-\uffff]" * 30
RECIPE = """name = "{name}"
kind = "{kind}"
url = "{site}/{name}"
[limits]
rate = 5
burst = 10
concurrency = 4
[extract]
records = "{records}"
[extract.fields]
id = "{id}"
{more}[store]
key = "id"
"""
TASKS = 3  # of each tenant, at once


def recipe(site: str, name: str, more: str = "") -> str:
    """Return a recipe of the hostile site's page of that name."""
    is_html = name == "bomb"
    return RECIPE.format(
        site=site,
        name=name,
        kind="html" if is_html else "json",
        records="li" if is_html else "items",
        id="a" if is_html else "id",
        more=more or ("" if is_html else 'name = "name"\n'),
    )


@dataclass(slots=True)
class Tenant:
    """One attacker. `answers`: how often the API answered with which status."""

    web: str
    site: str
    token: str
    rng: Random
    answers: Counter[str] = field(default_factory=Counter[str])

    async def attack(self) -> None:
        """Attack until cancelled."""
        headers = {"authorization": f"Bearer {self.token}"}
        async with (
            httpx.AsyncClient(
                base_url=self.web, headers=headers, timeout=30, trust_env=False
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            await self._settle(client)
            for _ in range(TASKS):
                group.create_task(self._go_on(client))

    async def _settle(self, client: httpx.AsyncClient) -> None:
        """Have every recipe collected every minute."""
        for name in ATTACKS:
            await self._send(client, "POST", "/sources", {"recipe": recipe(self.site, name)})
        chosen = [{"source": f"recipe:{name}"} for name in ATTACKS]
        body = {"name": "all", "sources": chosen}
        made = await self._send(client, "POST", "/presets", body)
        if made is not None and made.is_success:
            change = {
                "preset_id": made.json()["id"],
                "cron_expression": "* * * * *",
                "enabled": True,
            }
            await self._send(client, "PATCH", "/schedule", change)

    async def _go_on(self, client: httpx.AsyncClient) -> None:
        ways: tuple[Callable[[httpx.AsyncClient], Awaitable[object]], ...] = (
            self._run, self._dry_run, self._slow_recipe, self._edit, self._read, self._hang_up,
        )  # fmt: skip
        while True:
            await self.rng.choice(ways)(client)
            await asyncio.sleep(0.02)

    async def _run(self, client: httpx.AsyncClient) -> None:
        await self._send(client, "POST", "/run", {})

    async def _dry_run(self, client: httpx.AsyncClient) -> None:
        body = {"recipe": recipe(self.site, self.rng.choice(list(ATTACKS)))}
        await self._send(client, "POST", "/sources/dry-run", body)

    async def _slow_recipe(self, client: httpx.AsyncClient) -> None:
        fields = "".join(f"f{n} = {{ path = 'name', match = '{SLOW}{n}' }}\n" for n in range(40))
        body = {"recipe": recipe(self.site, "evil", fields)}
        await self._send(client, "POST", "/sources", body)

    async def _edit(self, client: httpx.AsyncClient) -> None:
        for n in range(20):
            await self._send(client, "PATCH", "/schedule", {"notify": bool(n % 2)})

    async def _read(self, client: httpx.AsyncClient) -> None:
        await self._send(client, "GET", "/items?limit=1000")

    async def _hang_up(self, client: httpx.AsyncClient) -> None:
        """Send half a request, and leave or stay."""
        del client
        with contextlib.suppress(OSError):
            port = urlsplit(self.web).port
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /collection/run HTTP/1.1\r\ncontent-length: 99\r\nhost: x\r\n")
            writer.write(self.rng.choice((b"", b"\r\n{")))
            await asyncio.sleep(self.rng.choice((0, 0, 0, 5)))
            writer.close()

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, body: object = None
    ) -> httpx.Response | None:
        try:
            answer = await client.request(method, f"/collection{path}", json=body)
        except httpx.HTTPError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        return answer
