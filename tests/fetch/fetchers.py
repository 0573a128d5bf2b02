"""A fetcher that neither sleeps nor is limited, and the handler of a site that answers."""

from datetime import UTC, datetime

import httpx

from app.core.messages import HostLimits
from app.fetch.client import Fetcher
from app.fetch.solo_limiter import SoloLimiter
from tests.fetch.hostile import PAGE, Handler, Visit

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FAST = HostLimits(rate=10_000, burst=10_000, concurrency=10)
MAX_BYTES = 1_000_000  # of a body


class Naps:
    """A sleep that does not, and remembers."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


def fetcher_on(
    client: httpx.AsyncClient, *, deadline: float = 5.0, naps: Naps | None = None
) -> Fetcher:
    return Fetcher(
        client,
        SoloLimiter(),
        source="test",
        limits=FAST,
        max_bytes=MAX_BYTES,
        deadline=deadline,
        clock=lambda: NOW,
        sleep=naps or Naps(),
        rng=lambda: 0.5,
    )


def honest(status: str = "200 OK", body: bytes = PAGE, **headers: str) -> Handler:
    async def handler(visit: Visit) -> None:
        await visit.answer(status, body, **headers)

    return handler
