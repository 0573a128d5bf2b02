"""What today's parser would read from a kept page: with its difference, and nothing is stored."""

import httpx
import pytest

from app.context import WorkerContext
from app.core.enums import Scope
from app.store.db import Pool
from scripts.standin.testing import Standin
from tests.api.clients import wares
from tests.dashboard.org_pages import digest, listing, org_page
from tests.dashboard.server import Site, csrf_of
from tests.replay.scraped import scraped

pytestmark = pytest.mark.timeout(120)


async def replayed(visitor: httpx.AsyncClient, page_id: int) -> httpx.Response:
    return await visitor.post(f"/data/pages/{page_id}/replay", data={"csrf": csrf_of(visitor)})


def fact(page: str, name: str) -> str:
    """The value of a fact of the page."""
    return page.split(f"<dt>{name}</dt><dd>")[1].split("<", maxsplit=1)[0]


async def test_a_page_of_an_organisations_recipe_is_compared_with_its_items(site: Site) -> None:
    page_id = await org_page(site, listing(3))
    before = await digest(site.pool)

    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        offered = (await visitor.get(f"/data/pages/{page_id}")).text
        page = (await replayed(visitor, page_id)).text

    assert f'action="/data/pages/{page_id}/replay"' in offered
    assert [fact(page, n) for n in ("Records", "Changed", "New against what is stored")] == [
        "3", "1", "1",
    ]  # fmt: skip
    assert "&lt;b&gt;as it was read once&lt;/b&gt;" in page
    assert "&#34;ware 2&#34;" in page
    assert await digest(site.pool) == before


@pytest.mark.parametrize(
    ("body", "recipe", "status", "said"),
    [
        (b"<html>maintenance</html>", "", 200, "The page cannot be parsed"),
        (listing(1), wares() + 'mode = "append"\n', 409, "observation"),
    ],
)
async def test_what_cannot_be_read_again_is_said(
    site: Site, body: bytes, recipe: str, status: int, said: str
) -> None:
    page_id = await org_page(site, body, recipe)

    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        answer = await replayed(visitor, page_id)

    assert (answer.status_code, said in answer.text) == (status, True)


async def test_what_the_page_rejected_then_and_is_readable_now_is_counted(site: Site) -> None:
    page_id = await org_page(site, listing(1))
    await site.pool.execute(
        "INSERT INTO rejected_records (execution_id, source, partition, page, reason, data)"
        " SELECT execution_id, source, partition, n, 'no title', '{}'"
        " FROM raw_pages, generate_series(1, 2) n"
    )
    before = await digest(site.pool)

    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        page = (await replayed(visitor, page_id)).text

    assert fact(page, "Rejected then, readable now") == "1"  # not that of the run's other page
    assert await digest(site.pool) == before


async def test_a_recipe_that_is_gone_and_pages_of_others_are_refused(site: Site) -> None:
    page_id = await org_page(site, listing(1))
    async with site.signed_in(Scope.OPERATE, "other") as stranger:
        theirs = await replayed(stranger, page_id)
    async with site.signed_in(Scope.READ, "acme") as reader:
        unallowed = await replayed(reader, page_id)
    await site.pool.execute("DELETE FROM org_sources")
    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        gone = await replayed(visitor, page_id)

    assert [theirs.status_code, unallowed.status_code, gone.status_code] == [404, 403, 409]


async def test_prices_of_a_site_are_compared_with_those_that_are_stored(
    context: WorkerContext, standin: Standin, site: Site, pool: Pool
) -> None:
    await scraped(context, standin, rounds=1)
    page_id: int = await pool.fetchval(
        "SELECT min(id) FROM raw_pages WHERE partition IS NOT NULL AND source ="
        " (SELECT min(platform) FROM odds_events)"
    )
    async with site.signed_in(Scope.OPERATE) as visitor:
        same = (await replayed(visitor, page_id)).text
        await pool.execute("UPDATE odds_prices SET price = price + 1")
        await pool.execute("UPDATE odds_events SET fingerprint = NULL")
        before = await digest(pool)
        differs = (await replayed(visitor, page_id)).text

    assert fact(same, "Changed") == fact(same, "New against what is stored") == "0"
    assert int(fact(same, "Records")) > 0
    assert "Nothing differs" in same
    assert int(fact(differs, "Changed")) > 0
    assert await digest(pool) == before
