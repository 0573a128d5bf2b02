"""A bound on the large pages that a process holds at once, over all sources.

A page may have 10 MB, and is held several times while it is read and stored. One that turns out to
be large takes one of a few places, from the first byte that is too many until it is done with.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

LARGE_BYTES = 1_000_000
MAX_LARGE_PAGES = 3


class LargePages:
    """The places, on the event loop of the thread that exchanges are made in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, places: int = MAX_LARGE_PAGES) -> None:
        self.loop = loop
        self.places = asyncio.Semaphore(places)


class PageHold:
    """What one page may hold: nothing, or one place.

    `waiting`: it waits for a place, or was given up meanwhile.
    """

    def __init__(self, large: LargePages) -> None:
        self._large = large
        self._held = self._closed = self.waiting = False

    async def enlarge(self) -> None:
        """Take a place, unless this page has one. From any thread's event loop."""
        if self._held:
            return
        self.waiting = True
        if asyncio.get_running_loop() is self._large.loop:
            await self._take()
        else:
            work = asyncio.run_coroutine_threadsafe(self._take(), self._large.loop)
            await asyncio.wrap_future(work)
        self.waiting = False

    async def _take(self) -> None:
        await self._large.places.acquire()
        if self._held or self._closed:
            self._large.places.release()
        else:
            self._held = True

    def close(self) -> None:
        """Give the place back."""
        with suppress(RuntimeError):  # the thread has ended
            self._large.loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        self._closed = True
        if self._held:
            self._held = False
            self._large.places.release()


_current: ContextVar[PageHold | None] = ContextVar("page_hold", default=None)


@contextmanager
def page_hold(large: LargePages) -> Generator[None]:
    """Let the page that is fetched and processed meanwhile be a large one, in its turn."""
    hold = PageHold(large)
    token = _current.set(hold)
    try:
        yield
    finally:
        _current.reset(token)
        hold.close()


def current_hold() -> PageHold | None:
    """Return what the page that is fetched now may hold; None if that is not bounded."""
    return _current.get()


async def enlarge_for(size: int) -> None:
    """Take a place for the current page if so many bytes are large."""
    hold = _current.get()
    if hold is not None and size > LARGE_BYTES:
        await hold.enlarge()
