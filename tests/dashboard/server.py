"""The web on a real port, and people who sign in to it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx
import uvicorn

from app.core.config import Config
from app.core.enums import Scope
from app.core.errors import UnknownOrg
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.store.db import Pool
from app.web.application import create_app
from app.web.dashboard.session import COOKIE, SessionSigner


class Server(uvicorn.Server):
    """Leaves the signals of the test alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Site:
    """Where it answers."""

    url: str
    pool: Pool

    async def token(self, scope: Scope, org: str | None = None, label: str = "ann") -> str:
        """A token of the operator, or of that organisation, which is made if need be."""
        now = datetime.now(UTC)
        if org is not None:
            with contextlib.suppress(UnknownOrg):
                await tokens.create_org(self.pool, org, now)
        wish = TokenRequest(org, label, scope, now + timedelta(hours=1))
        return await tokens.create_token(self.pool, wish, now, by="test")

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[httpx.AsyncClient]:
        """Somebody with a browser who has not signed in."""
        accept = {"accept": "text/html"}
        async with httpx.AsyncClient(base_url=self.url, headers=accept, timeout=20) as client:
            yield client

    @asynccontextmanager
    async def signed_in(
        self, scope: Scope, org: str | None = None
    ) -> AsyncGenerator[httpx.AsyncClient]:
        """Somebody who signed in with a token of the operator, or of that organisation."""
        async with self.visitor() as client:
            answer = await client.post("/login", data={"token": await self.token(scope, org)})
            assert answer.status_code == 303, answer.text
            yield client


@asynccontextmanager
async def opened(config: Config, pool: Pool) -> AsyncGenerator[Site]:
    """The web, served until the body is done."""
    server = Server(
        uvicorn.Config(create_app(config), port=0, log_config=None, timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Site(f"http://127.0.0.1:{port}", pool)
    finally:
        server.should_exit = True
        await serving


def csrf_of(client: httpx.AsyncClient) -> str:
    """The form token of the signed-in session, made with the secret of `config_for`."""
    signer = SessionSigner(b"s" * 32)
    session = signer.verify(client.cookies[COOKIE], datetime.now(UTC))
    assert session is not None
    return signer.csrf(session)


def csrf(page: str) -> str:
    """The token in the page's first form."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None, "the page has no form"
    return found[1]


def form_of(page: str) -> dict[str, str]:
    """The tokens in the page's forms: against other sites, and against sending a form twice."""
    once = re.search(r'name="once" value="([^"]+)"', page)
    assert once is not None, "the page has no form that makes a run"
    return {"csrf": csrf(page), "once": once[1]}


async def shown(site: Site, path: str, status: int = 200) -> str:
    async with site.signed_in(Scope.READ) as visitor:
        answer = await visitor.get(path)
    assert answer.status_code == status, answer.text
    return unescape(answer.text)


def cells(page: str) -> str:
    """The page as text, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
