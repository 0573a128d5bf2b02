"""Sends heartbeat pings: a GET to a URL of the operator, of which only the status counts."""

import httpx

from app.fetch.client import open_client

PING_TIMEOUT = 10.0


async def send_ping(url: str) -> str | None:
    """Send one GET; return the error, without the URL, or None. Does not raise for HTTP errors."""
    try:
        async with open_client("Rollcall", concurrency=1) as client:
            answer = await client.get(url, timeout=PING_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return type(error).__name__
    return None if answer.is_success else f"HTTP {answer.status_code}"
