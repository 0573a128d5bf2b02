"""Clients that send half a request, hang up or take no answer cost nobody else anything."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from app.web import boundary
from app.web.application import create_app
from app.web.boundary import RequestBounds
from tests.configs import NO_POSTGRES, config_for
from tests.dashboard.server import Server
from tests.redis_process import RedisProcess
from tests.wait import until
from tests.web.harness import visit

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())} bytes")


async def endless(_: Request) -> Response:
    async def pieces() -> AsyncGenerator[bytes]:
        while True:
            yield b"x" * 65_536

    return StreamingResponse(pieces())


async def broken(_: Request) -> Response:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"whole\n"
        raise ConnectionError("the database went away")

    return StreamingResponse(pieces())


@asynccontextmanager
async def serving() -> AsyncGenerator[int]:
    boundary.install()
    app = Starlette(
        routes=[
            Route("/", echo, methods=["GET", "POST"]),
            Route("/endless", endless),
            Route("/broken", broken),
        ],
        middleware=[Middleware(RequestBounds)],
    )
    server = Server(uvicorn.Config(app, port=0, log_config=None, timeout_keep_alive=1))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def answer_to(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """What comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET + b"GET / HTTP/1.1\r\nHost"])
async def test_half_a_request_is_let_go(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(boundary, "HEAD_SECONDS", 0.5)

    async with serving() as port:
        answer = await answer_to(port, sent)

    assert answer.count(b"200 OK") == sent.count(GET)


async def test_a_request_that_comes_in_time_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "HEAD_SECONDS", 0.8)
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async with serving() as port:
        answer = await answer_to(port, GET, GET, GET, closing, pause=0.5)

    assert answer.count(b"200 OK") == 4


async def test_a_body_that_does_not_arrive_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "BODY_SECONDS", 0.3)

    async with serving() as port:
        answer = await answer_to(port, b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 9\r\n\r\nab")

    assert b" 408 " in answer.splitlines()[0]


async def test_who_hangs_up_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async with serving() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 9\r\n\r\nab")
        await writer.drain()
        writer.close()
        await asyncio.sleep(0.3)

    assert not [record for record in caplog.records if record.exc_info]


async def test_a_response_that_nobody_takes_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(boundary, "TAKE_SECONDS", 0.5)
    caplog.set_level(logging.INFO)

    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        writer.write(GET.replace(b" / ", b" /endless "))
        with capture_logs() as logs:
            await until(lambda: "http.not_taken" in {line["event"] for line in logs}, 15)
        writer.transport.abort()
        del reader

    assert not [record for record in caplog.records if record.exc_info]


async def test_who_takes_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "TAKE_SECONDS", 0.5)

    async with serving() as port:
        with socket.create_connection(("127.0.0.1", port)) as taker:
            taker.sendall(GET.replace(b" / ", b" /endless "))
            # Nothing is read before it is reset: what the socket has room for is not the end.
            await until(lambda: taker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 15)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_response_that_breaks_is_seen_to_be_incomplete_and_logged_once(
    version: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """That to HTTP/1.0 would end where the connection does: it is reset instead."""
    with capture_logs() as logs:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET.replace(b" / ", b" /broken ").replace(b"1.1", version))
            with suppress(ConnectionResetError):
                answer = await reader.read()
                assert version == b"1.1"
                assert b"whole" in answer
                assert not answer.endswith(b"0\r\n\r\n")
            writer.close()

    assert logs == [
        {
            "event": "http.broken_off",
            "log_level": "warning",
            "path": "/broken",
            "error": "ConnectionError('the database went away')",
        }
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_request_with_two_lengths_is_refused() -> None:
    head = b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"

    async with serving() as port:
        answer = await answer_to(port, head + b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: w\r\n\r\n")

    assert b" 400 " in answer.splitlines()[0]
    assert answer.count(b"HTTP/1.1") == 1


async def test_no_redirect_goes_to_a_host_that_the_client_names(
    redis_server: RedisProcess,
) -> None:
    async with visit(create_app(config_for(NO_POSTGRES, redis_server.url))) as browser:
        for path in ("/health/", "/livez/", "/jobs/", "/static", "/login/"):
            answer = await browser.get(path, headers={"host": "evil.example"})

            assert "evil.example" not in answer.headers.get("location", ""), path
