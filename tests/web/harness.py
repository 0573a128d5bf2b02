"""A Redis of the test's own, which can be frozen and killed, and the web on top of it."""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from app.embedded.redis import binary
from app.web import create_app
from tests.configs import NO_POSTGRES, config_for
from tests.wait import block_until


class RedisServer:
    """A real server on a Unix socket, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process = subprocess.Popen(  # noqa: S603  # our own binary
            [
                str(binary()),
                *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)),
                *("--save", "", "--appendonly", "no"),
            ],
            stdout=subprocess.DEVNULL,
        )

    def answers(self) -> bool:
        """Whether it takes connections: its socket is there a moment before."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="rc-"))
    server = RedisServer(folder)
    block_until(server.answers, what="Redis")
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncGenerator[Redis]:
    client = Redis(unix_socket_path=str(redis_server.socket))
    yield client
    await client.aclose()


@asynccontextmanager
async def visit(app: Starlette) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser on the running app."""
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": state}, receive, send)

        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            yield client


Visit = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def web(redis_server: RedisServer) -> Visit:
    return lambda: visit(create_app(config_for(NO_POSTGRES, redis_server.url)))
