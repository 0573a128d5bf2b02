"""A server for tests and benchmarks, which leaves no connection open behind it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

STEPS_OF_ACCEPTING = 4  # of the loop, until a connection that has come is with its handler


@asynccontextmanager
async def tcp_server(
    handle: Handle, host: str = "127.0.0.1", **options: Any
) -> AsyncGenerator[int]:
    """Call `handle` with each connection, then close it; yields the port.

    `options` are those of `asyncio.start_server`. At the end, what still runs is cancelled, and its
    connections are aborted: one with unsent bytes would stay open until the loop has ended, and
    fail whichever test runs when it is collected.
    """
    visits: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handle(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(visit(reader, writer))
        visits[task] = writer
        task.add_done_callback(visits.pop)

    server = await asyncio.start_server(connected, host, 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for _ in range(STEPS_OF_ACCEPTING):
            await asyncio.sleep(0)
        server.close()
        for task, writer in visits.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
