"""A site that a job requests with `run.client` harms neither its worker nor other runs."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import httpx
import pytest

from app.context import WorkerContext
from app.core.messages import HostLimits
from app.fetch.client import RequestCounts
from app.fetch.limited_transport import JobClient, LimitedTransport
from app.jobs import Run, job
from tests import worker_harness
from tests.fetch.hostile import Visit, bomb, serving

FAST = HostLimits(rate=10_000, burst=10_000, concurrency=4)
MEGABYTE = bytes(1 << 20)
EARLY = b"103 Early Hints"
# What a response of each path begins with, what it goes on with, and the seconds between.
ENDLESS = {
    "/endless": (b"200 OK", MEGABYTE, 0.0),
    "/redirected": (b"302 Found\r\nlocation: /", MEGABYTE, 0.0),
    "/interim": (EARLY, (b"HTTP/1.1 " + EARLY + b"\r\n\r\n") * 1_000, 0.0),
    "/slow": (b"200 OK", b"x", 0.05),
}


@pytest.fixture
async def site() -> AsyncGenerator[str]:
    """A site whose responses do not end, or not as they began."""

    async def answer(visit: Visit) -> None:
        with contextlib.suppress(ConnectionError):
            await _answer(visit)

    async with serving(answer) as url:
        yield url


async def _answer(visit: Visit) -> None:
    if visit.path == "/bomb":
        await visit.answer(body=bomb(200), content_encoding="gzip")
        return
    if visit.path == "/silent":
        await visit.hang()
    begin, more, pause = ENDLESS[visit.path]
    await visit.say(b"HTTP/1.1 " + begin + b"\r\n\r\n")
    while True:
        await visit.say(more)
        await asyncio.sleep(pause)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/bomb", "too_large"),
        ("/endless", "too_large"),
        ("/redirected", "too_large"),
        ("/interim", "network"),
    ],
)
async def test_what_a_site_sends_without_end_fails_the_run_that_reads_it(
    context: WorkerContext, site: str, path: str, kind: str
) -> None:
    @job(limits=FAST, timeout=60)
    async def own(run: Run) -> None:
        await run.client.get(f"{site}{path}", follow_redirects=True)

    run_id = await worker_harness.perform(context, job=own)

    row = await worker_harness.run_row(context.pool, run_id)
    assert (row["status"], row["error_type"]) == ("failure", kind)


@pytest.mark.parametrize("path", ["/slow", "/silent"])
async def test_a_response_that_is_read_whole_has_a_limit_of_time_in_all(
    context: WorkerContext, site: str, path: str
) -> None:
    transport = LimitedTransport(
        context.job_transport, context.limiter, FAST, RequestCounts(), whole_seconds=0.3
    )

    async with JobClient(transport=transport, timeout=None, trust_env=False) as client:
        with pytest.raises(httpx.ReadTimeout, match="does not end"):
            await client.get(f"{site}{path}")


async def test_a_response_that_is_streamed_is_bounded_by_its_job_alone(
    context: WorkerContext, site: str
) -> None:
    transport = LimitedTransport(
        context.job_transport, context.limiter, FAST, RequestCounts(), whole_seconds=0.3
    )
    read = 0

    async with (
        JobClient(transport=transport, timeout=None, trust_env=False) as client,
        client.stream("GET", f"{site}/endless") as response,
    ):
        async for chunk in response.aiter_bytes():
            read += len(chunk)
            if read > 150_000_000:
                break

    assert read > 150_000_000
