"""A form that is refused for a field comes back with what was typed, and can be sent again."""

import re
from html import unescape

import httpx
import pytest

from app.core.enums import Scope
from tests.dashboard.fixtures import GOOD, Scene, alive
from tests.dashboard.server import Site, csrf

HTML = {"accept": "text/html"}
INPUT = re.compile(r'<input [^>]*?name="([^"]+)" value="([^"]*)"([^>]*)>')


def returned(answer: httpx.Response) -> tuple[dict[str, str], list[str]]:
    """The fields of the form of an answer, and the names of those that are marked as invalid."""
    main = answer.text.partition("<main")[2].partition("</main>")[0]
    found = INPUT.findall(main)
    fields = {name: unescape(value) for name, value, _ in found}
    return fields, [name for name, _, rest in found if "aria-invalid" in rest]


@pytest.mark.parametrize(
    ("typed", "faulty", "mended"),
    [
        ({"note": 'they "asked"', "until": "2020-01-01T00:00"}, "until", {"until": ""}),
        ({"note": "<b>they</b>", "until": "soon"}, "until", {"until": ""}),
        ({"note": " ", "until": ""}, "note", {"note": "they asked"}),
        ({"until": ""}, "note", {"note": "they asked"}),
    ],
)
async def test_a_refused_pause_comes_back_with_its_input_and_the_sentence_at_the_field(
    site: Site, scene: Scene, typed: dict[str, str], faulty: str, mended: dict[str, str]
) -> None:
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text)} | typed
        refused = await operator.post("/jobs/a/pause", data=form, headers=HTML)
        fields, invalid = returned(refused)
        again = await operator.post("/jobs/a/pause", data=fields | mended, headers=HTML)

    assert refused.status_code == 422
    assert 'aria-label="Pages"' in refused.text  # the navigation
    assert fields == {faulty: ""} | form
    assert invalid == [faulty]
    assert 'action="/jobs/a/pause"' in refused.text
    assert again.status_code == 303


async def test_parameters_that_a_job_does_not_take_come_back(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("scrape_all_platforms", [GOOD])
    typed = {"param.platforms": "bet9ja, nosuch", "note": "check"}
    async with site.signed_in(Scope.OPERATE) as operator:
        page = (await operator.get("/jobs/scrape_all_platforms")).text
        refused = await operator.post(
            "/jobs/scrape_all_platforms/run", data={"csrf": csrf(page)} | typed, headers=HTML
        )
        fields, _ = returned(refused)

    assert refused.status_code == 422
    assert typed.items() <= fields.items()
    assert "nosuch" in refused.text.partition('role="alert"')[2]


async def test_a_zone_that_is_none_comes_back_with_the_navigation(site: Site) -> None:
    async with site.signed_in(Scope.READ) as reader:
        refused = await reader.post(
            "/zone", data={"zone": "Mars/Olympus", "back": "/runs"}, headers=HTML
        )
    fields, invalid = returned(refused)

    assert (refused.status_code, invalid) == (422, ["zone"])
    assert fields == {"zone": "Mars/Olympus", "back": "/runs"}
    assert 'aria-label="Pages"' in refused.text


async def test_a_program_gets_the_same_answer_as_before(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text), "note": ""}
        refused = await operator.post("/jobs/a/pause", data=form, headers={"accept": "*/*"})

    assert (refused.status_code, refused.json()["status"]) == (422, "error")


async def test_a_form_of_a_session_that_has_ended_is_kept_until_it_is_sent_in_the_next(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    browser = HTML | {"origin": site.url}
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text), "note": 'they "asked"'}
    async with site.visitor() as nobody:
        ended = await nobody.post("/jobs/a/pause", data=form, headers=browser)
    kept, _ = returned(ended)
    async with site.signed_in(Scope.OPERATE) as again:
        other = await again.post("/jobs/a/pause", data=kept, headers=browser)
        fields, _ = returned(other)
        unsaid = await again.post("/jobs/a/pause", data=kept, headers=HTML)
        done = await again.post("/jobs/a/pause", data=fields, headers=browser)

    assert (ended.status_code, other.status_code, done.status_code) == (401, 403, 303)
    assert kept == form | {"csrf": ""}
    assert 'href="/login" target="_blank"' in ended.text
    assert fields == form | {"csrf": fields["csrf"]}
    assert fields["csrf"] != form["csrf"]
    assert returned(unsaid) == ({}, [])  # nothing says that a page of this site has sent it
    assert await scene.pool.fetchval("SELECT paused_note FROM schedules") == form["note"]
