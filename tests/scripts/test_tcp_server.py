"""The server of the tests leaves no connection open, whatever its handler does."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import pytest

from scripts.tcp_server import tcp_server


@pytest.mark.parametrize("hangs", [True, False], ids=["its handler hangs", "its handler has ended"])
async def test_a_connection_with_unsent_bytes_is_closed_with_its_server(hangs: bool) -> None:
    sockets: list[Any] = []
    flooded = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(bytes(20_000_000))
        sockets.append(writer.get_extra_info("socket"))
        flooded.set()
        if hangs:
            await asyncio.Event().wait()

    async with tcp_server(flood) as port:
        _, client = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        await flooded.wait()
        assert sockets[0].fileno() != -1

    assert sockets[0].fileno() == -1
    client.transport.abort()


@pytest.mark.parametrize("steps", range(4))
async def test_a_connection_that_comes_as_the_server_ends_is_closed(steps: int) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader, writer
        await asyncio.Event().wait()

    async with tcp_server(wait) as port:
        client = socket.create_connection(("127.0.0.1", port))
        for _ in range(steps):
            await asyncio.sleep(0)

    client.setblocking(False)
    with client, suppress(ConnectionResetError):
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 10) == b""
