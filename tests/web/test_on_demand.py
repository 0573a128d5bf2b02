"""The pages and the API are imported when the first of them is requested."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

import httpx

from app.core.config import Config
from app.web.application import create_app
from tests.fresh_process import printed_by

DEADLINE = 20.0  # seconds
NEEDED_FOR_PAGES = ("app.models", "app.web.api.table", "sqlalchemy", "sqlmodel", "workers.registry")
PROBE = f"""
import asyncio, sys
from app.web import app

async def request(path):
    messages = iter([{{"type": "http.request", "body": b"", "more_body": False}}])
    async def receive():
        return next(messages, None) or await asyncio.Event().wait()
    async def send(message):
        sent.append(message.get("status"))
    sent = []
    scope = {{"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}}
    await app(scope, receive, send)
    print(path, sent[0], *[name for name in {NEEDED_FOR_PAGES!r} if name in sys.modules])

asyncio.run(request("/livez"))
asyncio.run(request("/static/rollcall.css"))
asyncio.run(request("/docs"))
"""


def test_what_pages_need_is_imported_with_the_first_of_them() -> None:
    assert printed_by(PROBE).splitlines() == [
        "/livez 200",
        "/static/rollcall.css 200",
        " ".join(("/docs 200", *NEEDED_FOR_PAGES)),
    ]


class Slow:
    """An import that takes until it is released, and how many there were."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()
        self.count = 0

    @contextmanager
    def importing(self) -> Generator[None]:
        self.count += 1
        self.begun.set()
        assert self.released.wait(DEADLINE)
        yield


async def test_the_process_is_live_while_pages_are_imported_and_that_happens_once() -> None:
    slow = Slow()
    transport = httpx.ASGITransport(create_app(Config(), importing=slow.importing))
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        pages = [asyncio.create_task(client.get("/docs")) for _ in range(3)]
        try:
            assert await asyncio.to_thread(slow.begun.wait, DEADLINE)
            live = await client.get("/livez")
            waiting = [page.done() for page in pages]
        finally:
            slow.released.set()
        async with asyncio.timeout(DEADLINE):
            answers = await asyncio.gather(*pages)

    assert live.status_code == 200
    assert waiting == [False] * 3
    assert [one.status_code for one in answers] == [200] * 3
    assert slow.count == 1


async def test_a_reader_who_leaves_meanwhile_spoils_no_other_request() -> None:
    slow = Slow()
    transport = httpx.ASGITransport(create_app(Config(), importing=slow.importing))
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        first = asyncio.create_task(client.get("/docs"))
        assert await asyncio.to_thread(slow.begun.wait, DEADLINE)
        first.cancel()
        slow.released.set()
        async with asyncio.timeout(DEADLINE):
            answer = await client.get("/docs")

    assert answer.status_code == 200
