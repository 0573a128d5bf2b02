"""A plain GET to an address of the operator's own, of which only the status counts."""

import httpx

from app.fetch.client import open_client

SECONDS = 10.0


async def ask(url: str) -> str | None:
    """Ask once; returns what went wrong, without the address, or None. Never raises for that."""
    try:
        async with open_client("Rollcall", concurrency=1) as client:
            answer = await client.get(url, timeout=SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return type(error).__name__
    return None if answer.is_success else f"HTTP {answer.status_code}"
