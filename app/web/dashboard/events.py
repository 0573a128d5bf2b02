"""Server-sent events: one per change of the displayed state, on which the page reloads."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncGenerator, Generator
from hashlib import sha256
from types import FrameType
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.store.db import UNAVAILABLE
from app.store.reports import overview
from app.store.tenancy import org_transaction
from app.web.context import WebContext, web_context
from app.web.dashboard.session_auth import NO_STORE, SessionUser, current_user

POLL_SECONDS = 1.0  # seconds between two polls of the state
POLLS_PER_KEEP_ALIVE = 15  # polls between keep-alive comments
POLLS_PER_SESSION_CHECK = 10  # polls without a change between checks of the session
MAX_POLLS = 300  # polls until the stream ends and the browser reconnects

HEADERS = NO_STORE | {"x-accel-buffering": "no"}


async def stream(request: Request, user: SessionUser) -> Response:
    """A stream with one event per change. Raises HTTPException 503 if too many are open."""
    context = web_context(request)
    if not context.streams.has_room(user.org_id):
        raise HTTPException(503, "Too many live connections.")
    if request.method == "HEAD":  # which would hold the connection for as long as the stream
        return Response(media_type="text/event-stream", headers=HEADERS)
    events = _events(request, context, user.org_id)
    return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)


async def _events(
    request: Request, context: WebContext, org_id: UUID | None
) -> AsyncGenerator[str]:
    with context.streams.hold(org_id):
        yield "retry: 2000\n\n"
        sent = ""
        for poll in range(1, MAX_POLLS):
            now = sha256((await _state(context, org_id)).encode()).hexdigest()[:16]
            asked = now != sent or poll % POLLS_PER_SESSION_CHECK == 0
            if asked and await current_user(request) is None:
                return
            if now != sent:
                sent = now
                yield f"data: {now}\n\n"
            elif poll % POLLS_PER_KEEP_ALIVE == 0:
                yield ": keep-alive\n\n"  # a write detects a closed connection
            if await context.is_stopping_within(POLL_SECONDS):
                return


async def _state(context: WebContext, org_id: UUID | None) -> str:
    """A text that changes with what the pages show: of the operator, or of one organisation."""
    if org_id is None:
        return await context.fingerprint.value()
    try:
        async with org_transaction(context.pool, org_id) as connection:
            return await overview.org_change_marker(connection, org_id)
    except UNAVAILABLE:
        return ""


@contextlib.contextmanager
def stop_on_signal(ending: asyncio.Event) -> Generator[None]:
    """Set `ending` at SIGTERM and SIGINT.

    The server waits for open streams before it runs the shutdown of the lifespan.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signal handlers can be set in the main thread only
        return
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.enter_context(_chain_handler(number, ending))
        yield


@contextlib.contextmanager
def _chain_handler(number: signal.Signals, ending: asyncio.Event) -> Generator[None]:
    loop, previous = asyncio.get_running_loop(), signal.getsignal(number)
    if not callable(previous):
        yield
        return

    def stop(received: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(ending.set)
        previous(received, frame)

    signal.signal(number, stop)
    try:
        yield
    finally:
        if signal.getsignal(number) is stop:
            signal.signal(number, previous)
