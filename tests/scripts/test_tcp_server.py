"""The server of the tests leaves no connection open, whatever its handler does."""

import asyncio
from typing import Any

import pytest

from tests.tcp_server import tcp_server


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
