"""httpx's client without what a scrape never uses: authentication, cookies, redirects, its log.

Half of what a request costs in httpx goes there. Requests, answers and the transport are httpx's.
"""

from collections.abc import Mapping
from typing import Any

import httpx


class LeanClient(httpx.AsyncClient):
    """Sends what it is given over `wire`, and hands back what comes, unread. To be closed."""

    def __init__(
        self, wire: httpx.AsyncBaseTransport, *, headers: Mapping[str, str], timeout: httpx.Timeout
    ) -> None:
        super().__init__(transport=wire, headers=headers, timeout=timeout, trust_env=False)
        self._wire = wire
        self._always = dict(headers)
        self._extensions = {"timeout": timeout.as_dict()}

    def build_request(self, method: str, url: httpx.URL | str, **told: Any) -> httpx.Request:
        """As httpx does it, from `params`, `headers` and `content` alone."""
        return httpx.Request(
            method,
            url,
            params=told.get("params"),
            headers=self._always | (told.get("headers") or {}),
            content=told.get("content"),
            extensions=self._extensions,
        )

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send it. The answer is a stream: read it, and close it."""
        return await self._wire.handle_async_request(request)
