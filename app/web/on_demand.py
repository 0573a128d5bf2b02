"""The pages and the API, which are imported when the first request for one of them comes.

Until then a web process needs half of the memory, and it answers in half of the time after its
start: enough for one that only reports health and metrics.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from app.core.lazy_import import COMPILING

Importing = Callable[[], AbstractContextManager[None]]


class OnDemand:
    """ASGI application that serves the pages and the API. `importing`: the context of imports."""

    def __init__(self, importing: Importing) -> None:
        self._importing = importing
        self._lock = asyncio.Lock()
        self._router: Router | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._router is None:
            async with self._lock:
                # In a thread: health is reported meanwhile.
                self._router = self._router or await asyncio.to_thread(self._load)
        await self._router(scope, receive, send)

    def _load(self) -> Router:
        with COMPILING, self._importing():
            from app.web.page_and_api_routes import page_and_api_routes  # noqa: PLC0415 - as above

            return Router(page_and_api_routes(), redirect_slashes=False)
