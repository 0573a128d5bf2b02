"""Why the fetcher does not stand on httpx's own pool. When this fails, it could."""

import asyncio

import httpx

from tests.fetch.hostile import Visit, serving

AT_ONCE = 20


async def stuck(visit: Visit) -> None:
    if visit.path == "/stuck":
        await visit.hang()
    await visit.answer()


async def cancelled(client: httpx.AsyncClient, base: str, rounds: int) -> None:
    """So many rounds of requests, cut off while they wait, connect, or stand in line."""

    async def impatient(seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await client.get(f"{base}/stuck")

    for _ in range(rounds):
        waits = (0.001 * number for number in range(AT_ONCE))
        await asyncio.gather(*map(impatient, waits), return_exceptions=True)


async def test_httpx_s_own_pool_stays_clogged_after_1200_cancelled_requests() -> None:
    limits = httpx.Limits(max_connections=10)
    transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
    async with serving(stuck) as base, httpx.AsyncClient(transport=transport) as client:
        await cancelled(client, base, 1_200 // AT_ONCE)
        healthy = await asyncio.gather(
            *(client.get(f"{base}/well", timeout=httpx.Timeout(5, pool=0.5)) for _ in range(5)),
            return_exceptions=True,
        )

    assert [type(answer) for answer in healthy] == [httpx.PoolTimeout] * 5
