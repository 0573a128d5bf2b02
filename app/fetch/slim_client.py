"""An httpx client without authentication, cookies, redirects and request logging.

These cost half of the CPU time of a request in httpx, and a scrape uses none of them. Requests,
responses and the transport are httpx's.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Self

import aiohttp
import httpx

from app.core.job_scope import refuse_to_jobs

_target: ContextVar[bytes] = ContextVar("_target")


async def send_url_as_written(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send the path and query that httpx was given; aiohttp would decode escapes such as `%2F`.

    A middleware of the session of a SlimClient.
    """
    path, _, query = _target.get().decode("ascii").partition("?")
    request.url = type(request.url).build(
        scheme=request.url.scheme,
        authority=request.url.raw_authority,
        path=path,
        query_string=query,
        encoded=True,
    )
    return await handler(request)


class SlimClient(httpx.AsyncClient):
    """Sends requests over `transport` and returns unread responses. Must be closed."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        headers: Mapping[str, str],
        timeout: httpx.Timeout,
    ) -> None:
        super().__init__(transport=transport, headers=headers, timeout=timeout, trust_env=False)
        self._direct_transport = transport
        self._default_headers = dict(headers)
        self._extensions = {"timeout": timeout.as_dict()}

    async def aclose(self) -> None:
        """Close the connections."""
        refuse_to_jobs("AsyncClient.aclose")
        await super().aclose()

    async def __aenter__(self) -> Self:
        """Open the client, which only its owner does."""
        refuse_to_jobs("async with AsyncClient")
        return await super().__aenter__()

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """Build a request as httpx does, from `params`, `headers` and `content` only."""
        return httpx.Request(
            method,
            url,
            params=options.get("params"),
            headers=self._default_headers | (options.get("headers") or {}),
            content=options.get("content"),
            extensions=self._extensions,
        )

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send `request`; the caller reads and closes the response, which is a stream."""
        reset = _target.set(request.url.raw_path)
        try:
            return await self._direct_transport.handle_async_request(request)
        finally:
            _target.reset(reset)
