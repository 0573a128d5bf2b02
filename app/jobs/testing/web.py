"""A pretend web: pages by URL, for the HTTP clients of jobs and the fetchers of sources."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class PretendPage:
    """What a URL answers."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class PretendWeb:
    """Answers with the pages that it was given; any other URL answers 404.

    `requests`: the URLs that were requested, in order.
    """

    def __init__(self) -> None:
        self._pages: dict[str, PretendPage] = {}
        self.requests: list[str] = []

    def page(
        self,
        url: str,
        body: bytes | str | list[Any] | dict[str, Any],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer `url` with `body`: bytes, text, or what is sent as JSON.

        A URL without a query answers with any query.
        """
        kind = "application/json" if isinstance(body, list | dict) else "text/html"
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        sent = {"content-type": kind, **(headers or {})}
        self._pages[url] = PretendPage(body, status, sent)

    def transport(self) -> httpx.AsyncBaseTransport:
        """The transport whose requests are answered by these pages."""
        return _PretendTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.requests.append(url)
        page = self._pages.get(url) or self._pages.get(url.partition("?")[0])
        if page is None:
            page = PretendPage(f"no pretend page {url}".encode(), HTTPStatus.NOT_FOUND)
        # A stream that has not been read, as from a site.
        return httpx.Response(
            page.status, headers=page.headers, stream=httpx.ByteStream(page.body), request=request
        )

    def dump(self) -> list[Any]:
        """The pages as JSON, for another process."""
        return [
            [url, b64encode(page.body).decode(), page.status, dict(page.headers)]
            for url, page in self._pages.items()
        ]

    @classmethod
    def load(cls, pages: list[Any]) -> "PretendWeb":
        """The web that `dump` described."""
        web = cls()
        for url, body, status, headers in pages:
            web.page(url, b64decode(body), status=status, headers=headers)
        return web


class _PretendTransport(httpx.AsyncBaseTransport):
    """Answers requests without a network."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        return self._answer(request)
