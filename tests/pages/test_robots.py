"""A source whose pages are made for people keeps to the site's robots.txt."""

from app.context import WorkerContext
from tests.fetch.hostile import Visit, serving
from tests.pages.toy_source import Site, Toy, scrape

TWO = {1: [["a", "2.0"]], 2: [["b", "3.0"]]}


async def test_what_robots_txt_forbids_is_blocked_and_never_asked_for(
    context: WorkerContext,
) -> None:
    site = Site(TWO)
    read = 0

    async def ruled(visit: Visit) -> None:
        nonlocal read
        if visit.path == "/robots.txt":
            read += 1
            rules = b"User-agent: *\nDisallow: /*page=2"
            await visit.answer(body=rules, content_type="text/plain")
        else:
            await site(visit)

    async with serving(ruled) as base:
        row = await scrape(context, Toy(base, robots=True))

    assert (row["status"], row["records"]) == ("partial_failure", 1)
    assert row["errors"]["all"]["kind"] == "blocked"
    assert row["errors"]["all"]["error"] == "robots.txt forbids"
    assert [number for number, _ in site.seen] == [1]
    assert read == 1
