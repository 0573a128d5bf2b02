"""Every time that a page shows is in the reader's zone, with UTC beside it."""

import re

import pytest

from app.core.enums import Scope
from tests.dashboard.filled import live, pages
from tests.dashboard.fixtures import Scene
from tests.dashboard.server import Site

pytestmark = pytest.mark.timeout(120)
# What is not read as text of ours, and times with UTC beside them.
LEFT_OUT = (
    r"<(svg|pre|code|title|option)\b.*?</\1>",
    r'<time [^>]*>[^<]*</time> <span class="utc quiet">[^<]* UTC</span>',
    r"<[^>]*>",
)
# A sentence that names UTC, such as the reason of an alert, is left as it is.
INSTANT = re.compile(
    r"(?<![\d:-])(?:\d{4}-\d\d-\d\d )?\d\d:\d\d(?!:\d\d[.\d]* UTC| to [- :.\d]+ UTC).{0,20}"
)


def only_in_utc(page: str) -> list[str]:
    """The times in the text of the page that are not in the reader's zone."""
    for pattern in LEFT_OUT:
        page = re.sub(pattern, "", page, flags=re.DOTALL)
    return INSTANT.findall(page)


async def test_no_time_is_in_utc_alone(site: Site, scene: Scene) -> None:
    names = await live(scene)
    async with site.signed_in(Scope.ADMIN) as visitor:
        await visitor.post("/zone", data={"zone": "Africa/Lagos", "back": "/"})
        shown = {path: (await visitor.get(path)).text for path in pages(names, org=False)}

    assert sum(page.count('class="utc quiet"') for page in shown.values()) > 100
    found = {path: only_in_utc(page) for path, page in shown.items()}
    assert {path: times[:5] for path, times in found.items() if times} == {}
