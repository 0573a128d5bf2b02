"""Word of every change, as server-sent events: the page then reads itself again."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncGenerator, Generator
from hashlib import sha256
from types import FrameType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.web.desk import Desk
from app.web.visitors import NO_STORE, Visitor, desk_of, recognise

LOOK_EVERY = 1.0
SPEAK_EVERY = 15  # looks
KNOW_EVERY = 10  # looks, after which it is asked again who listens
LASTS = 300  # looks; then the browser comes again
MOST = 200  # who listen at once

HEADERS = NO_STORE | {"x-accel-buffering": "no"}


async def live(request: Request, _: Visitor) -> Response:
    """A stream of one short text per change."""
    desk = desk_of(request)
    if desk.listeners >= MOST:
        raise HTTPException(503, "Too many are listening.")
    return StreamingResponse(_words(request, desk), media_type="text/event-stream", headers=HEADERS)


async def _words(request: Request, desk: Desk) -> AsyncGenerator[str]:
    desk.listeners += 1
    try:
        yield "retry: 2000\n\n"
        said = ""
        for look in range(1, LASTS):
            now = _mark(await desk.pulse.value())
            if now != said:
                said = now
                yield f"data: {now}\n\n"
            elif look % SPEAK_EVERY == 0:
                yield ": still here\n\n"  # else nobody notices that a reader has left
            if look % KNOW_EVERY == 0 and await recognise(request) is None:
                return
            if await _ended(desk):
                return
    finally:
        desk.listeners -= 1


async def _ended(desk: Desk) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(desk.ending.wait(), LOOK_EVERY)
    return desk.ending.is_set()


def _mark(pulse: str) -> str:
    return sha256(pulse.encode()).hexdigest()[:16]


@contextlib.contextmanager
def told_to_stop(ending: asyncio.Event) -> Generator[None]:
    """Set `ending` at SIGTERM and SIGINT: a server waits for streams to end before it tells us."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to others; whoever started us stops us
        return
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.enter_context(_also(number, ending))
        yield


@contextlib.contextmanager
def _also(number: signal.Signals, ending: asyncio.Event) -> Generator[None]:
    loop, theirs = asyncio.get_running_loop(), signal.getsignal(number)
    if not callable(theirs):
        yield
        return

    def stop(got: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ending.set)
        theirs(got, frame)

    signal.signal(number, stop)
    try:
        yield
    finally:
        if signal.getsignal(number) is stop:
            signal.signal(number, theirs)
