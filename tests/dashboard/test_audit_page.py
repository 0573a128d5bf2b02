"""The page of actions: acts and edits in one order, filtered, and continued by a link."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

from app.core.enums import Scope
from tests.dashboard.fixtures import GOOD, Scene
from tests.dashboard.server import Site

AT = datetime(2026, 9, 5, 12, tzinfo=UTC)
ACT = """
INSERT INTO audit_log (at, by, action, job, reason, detail)
VALUES ($1, $2, 'cancel', 'a', $3, '{"depth": 2, "params": {}}')
"""
EDIT = """
INSERT INTO schedule_edits (schedule_id, at, by, action, after)
SELECT id, $1, $2, 'pause', jsonb_build_object('note', $3::text) FROM schedules WHERE key = $4
"""


def reasons(page: str) -> list[str]:
    """The reasons of a page, each `r` and a number, in its order."""
    return re.findall(r'class="error" dir="auto">(r\d+)<', page)


def older(page: str) -> str:
    """The address of the link "Older actions"; empty if there is none."""
    found = re.search(r'<a rel="next" href="([^"]+)">Older actions</a>', page)
    return unescape(found[1]) if found else ""


async def pages_of(site: Site, path: str) -> list[list[str]]:
    """The reasons on each page, from that address on."""
    found: list[list[str]] = []
    async with site.signed_in(Scope.READ) as reader:
        while path:
            page = (await reader.get(path)).text
            found.append(reasons(page))
            path = older(page)
    return found


async def test_acts_and_edits_are_in_one_order_the_newest_first(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    for number in (2, 0, 4, 1, 3, 5):  # not stored in their order
        at = AT + timedelta(minutes=number)
        if number % 2:
            await scene.pool.execute(EDIT, at, "ada", f"r{number}", "a")
        else:
            await scene.pool.execute(ACT, at, "ada", f"r{number}")

    assert await pages_of(site, "/audit") == [["r5", "r4", "r3", "r2", "r1", "r0"]]


async def test_parameters_that_are_named_as_secrets_are_not_shown(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    params = {"site": "north", "token": "s3cret", "login": {"password": "s3cret"}}
    await scene.pool.execute("UPDATE runs SET params = $1", params)
    await scene.pool.execute(ACT, AT, "ada", "r0")
    await scene.pool.execute("UPDATE audit_log SET detail = $1", {"params": params})
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")

    async with site.signed_in(Scope.READ) as reader:
        pages = [(await reader.get(path)).text for path in (f"/runs/{run_id}", "/audit")]

    assert ["north" in page for page in pages] == [True, True]
    assert ["s3cret" in page for page in pages] == [False, False]


async def test_of_one_instant_the_acts_are_before_the_edits_and_each_is_shown_once(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    for number in range(60):
        await scene.pool.execute(ACT, AT, "ada", f"r{number}")
        await scene.pool.execute(EDIT, AT, "ada", f"r{100 + number}", "a")

    pages = await pages_of(site, "/audit")

    acts = [f"r{number}" for number in reversed(range(60))]
    edits = [f"r{number}" for number in reversed(range(100, 160))]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert [reason for page in pages for reason in page] == acts + edits


async def test_the_newest_of_many_are_on_the_first_page_and_the_link_leads_to_the_rest(
    site: Site, scene: Scene
) -> None:
    for number in range(51):
        await scene.pool.execute(ACT, AT - timedelta(minutes=number), "ada", f"r{number}")

    assert await pages_of(site, "/audit") == [[f"r{number}" for number in range(50)], ["r50"]]


async def test_fifty_actions_have_no_link_to_older_ones(site: Site, scene: Scene) -> None:
    for number in range(50):
        await scene.pool.execute(ACT, AT - timedelta(minutes=number), "ada", f"r{number}")

    assert len(await pages_of(site, "/audit")) == 1


async def test_the_filters_are_of_acts_and_edits_and_stay_in_the_link(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    await scene.job("b", [GOOD])
    for number in range(60):
        at, by = AT - timedelta(minutes=number), ("ada", "bob")[number % 2]
        await scene.pool.execute(ACT, at, by, f"r{number}")
        await scene.pool.execute(EDIT, at, by, f"r{100 + number}", "b")

    of_ada = [reason for page in await pages_of(site, "/audit?by=ada") for reason in page]
    of_a = [reason for page in await pages_of(site, "/audit?job=a") for reason in page]
    of_b = await pages_of(site, "/audit?job=b&by=bob")

    evens = [[f"r{number}", f"r{100 + number}"] for number in range(0, 60, 2)]
    assert of_ada == [reason for pair in evens for reason in pair]
    assert of_a == [f"r{number}" for number in range(60)]
    assert of_b == [[f"r{100 + number}" for number in range(1, 60, 2)]]


async def test_the_form_repeats_its_filters_and_says_that_nothing_matches(site: Site) -> None:
    async with site.signed_in(Scope.READ) as reader:
        none, of_job, of_author = [
            (await reader.get(f"/audit{query}")).text
            for query in ("", "?job=nobody", "?by=nobody%40here")
        ]

    assert "No actions yet." in none
    assert '<option value="nobody" selected>' in of_job
    assert 'name="by" value="nobody@here"' in of_author
    assert of_job.count("No matching actions yet.") == 1
    assert of_author.count("No matching actions yet.") == 1


async def test_an_action_is_shown_with_its_author_and_only_the_details_that_are_set(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    await scene.pool.execute(ACT, AT, "ada", "r1")
    await scene.pool.execute(EDIT, AT, "bob", "r2", "a")

    async with site.signed_in(Scope.READ) as reader:
        page = unescape((await reader.get("/audit")).text)

    cells = re.findall(r'<td role="cell">([^<]*)</td>', page)
    details = [text.replace(" ", "") for text in re.findall(r"<code>([^<]*)</code>", page)]
    assert cells == ["ada", "cancel", "bob", "pause"]
    assert details == ['{"depth":2}', '{"after":{"note":"r2"}}']
