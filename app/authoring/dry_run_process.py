"""The process that makes dry runs: `python -m app.authoring.dry_run_process`, started by the web.

It reads its settings and then dry runs from its standard input, each with its length, makes them
concurrently, and writes a result for each. The end of the input ends it.
"""

import asyncio
import os
import pickle
import ssl
import sys
from contextlib import AsyncExitStack
from io import FileIO
from typing import cast

import msgspec

from app.authoring.dry_run import dry_run
from app.authoring.dry_run_order import DryRunOrder, DryRunSettings
from app.authoring.page import PageFetcher
from app.control import Clock
from app.core import frames, log
from app.core.version import user_agent
from app.fetch.authenticated import Fetchers
from app.fetch.client import open_client
from app.fetch.exchange_thread import ExchangeThread
from app.fetch.large_pages import page_hold
from app.fetch.limiter import RedisLimiter
from app.fetch.robots import Robots
from app.fetch.ssrf_guard import Guard
from app.queue.jobs import redis_pool
from app.sources.recipes.sandbox import Sandbox

PRIORITY = 5  # lower than that of the process that answers
CONNECTIONS = 16
SANDBOX_PROCESSES = 2
PARSE_SECONDS = 10.0  # for one page


async def serve(settings: DryRunSettings, orders: asyncio.StreamReader, results: FileIO) -> None:
    """Make dry runs until the end of `orders`."""
    async with AsyncExitStack() as stack:
        redis = redis_pool(settings.redis, ssl_cert_reqs=settings.redis_ssl_cert_reqs)
        stack.push_async_callback(redis.aclose, close_connection_pool=True)
        limiter = RedisLimiter(redis)
        stack.push_async_callback(limiter.close)
        thread = await stack.enter_async_context(ExchangeThread())
        client = open_client(
            user_agent(settings.contact),
            concurrency=CONNECTIONS,
            ssl_context=ssl.create_default_context(),
            guard=Guard.allowing(settings.guard_allow),
            thread=thread,
        )
        await stack.enter_async_context(client)
        sandbox = Sandbox(SANDBOX_PROCESSES, wall=PARSE_SECONDS)
        stack.push_async_callback(sandbox.close)
        fetcher = PageFetcher(client, Fetchers(client, limiter, Clock()), Robots(redis), sandbox)

        async def make(number: int, order: DryRunOrder) -> None:
            with page_hold(thread.large_pages):
                brought = await dry_run(fetcher, order)
            frames.write(results, msgspec.json.encode((number, brought)))

        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    body = await frames.read_async(orders)
                except EOFError:
                    break
                number, order = cast("tuple[int, DryRunOrder]", pickle.loads(body))  # noqa: S301 - from the web process that started us
                group.create_task(make(number, order))


async def _main(results: FileIO) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    try:
        settings = cast("DryRunSettings", pickle.loads(await frames.read_async(orders)))  # noqa: S301 - as above
    except EOFError:
        return
    log.configure(settings.log_format, settings.log_level, ())
    await serve(settings, orders, results)


def main() -> None:
    """Make the dry runs on standard input."""
    os.nice(PRIORITY)
    results = FileIO(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed is no result
    asyncio.run(_main(results))


if __name__ == "__main__":
    main()
