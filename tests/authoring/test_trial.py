"""`source try` and dry runs end as a run does."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from app.authoring import golden, trial
from app.authoring.trial import TrialPage
from app.core.errors import Failure, FileUnusable, HttpStatus, Incomplete
from app.core.messages import Partition, RawPage, SourceRequest
from app.sources.recipes.sandbox import Sandbox
from tests.clock import NOON
from tests.recipes.served_pages import ERROR, Response, json_page, page_number, served, source_of


class Fetcher:
    """Answers requests with the pages of a site."""

    def __init__(self, site: Callable[[SourceRequest], Response], sandbox: Sandbox) -> None:
        self.site, self.sandbox = site, sandbox

    async def fetch(
        self, window: object, request: SourceRequest, part: Partition, number: int
    ) -> tuple[RawPage, float]:
        del window
        response = self.site(request)
        if response.status >= 400:
            raise HttpStatus(f"HTTP {response.status}", status=response.status)
        body = response.body.encode() if isinstance(response.body, str) else response.body
        headers = {"link": response.link} if response.link else {}
        return RawPage(body, response.status, request.url, headers, NOON, part, number), 0.0


async def tried(
    kind: str, site: Callable[[SourceRequest], Response], pages: int = 9, **more: str
) -> list[trial.TrialPage]:
    sandbox = Sandbox(1)
    try:
        fetcher: Any = Fetcher(site, sandbox)
        source = source_of(kind, **more)
        return await trial.fetch_trial_pages(
            source, fetcher, cast("Any", None), parts=1, pages=pages
        )
    finally:
        await sandbox.close()


@pytest.mark.parametrize("kind", ["page", "cursor"])
async def test_a_whole_listing_says_what_ended_it(kind: str) -> None:
    pages = await tried(kind, lambda request: json_page(page_number(request)))

    assert [page.failure for page in pages] == [None] * len(pages)
    assert pages[-1].end == ("an empty list" if kind == "page" else "no next page")
    assert not pages[-1].more


async def test_a_closing_404_that_the_recipe_names_is_the_end() -> None:
    pages = await tried("page", served(Response("", 404)), end_status="[404]")

    assert [len(page.rows) for page in pages] == [3, 3]
    assert pages[-1].end == "HTTP 404"


@pytest.mark.parametrize(
    ("middle", "kind"), [(Response("", 404), HttpStatus), (Response(ERROR), Incomplete)]
)
async def test_what_is_not_an_end_is_a_failure(middle: Response, kind: type[Failure]) -> None:
    pages = await tried("page", served(middle))

    assert isinstance(pages[-1].failure, kind)


async def test_fewer_rows_than_the_total_are_a_failure() -> None:
    pages = await tried(
        "page", lambda request: json_page(page_number(request), total=99), total='"total"'
    )

    assert isinstance(pages[-1].failure, Incomplete)


async def test_pages_beyond_the_limit_are_more() -> None:
    pages = await tried("page", lambda request: json_page(page_number(request)), pages=2)

    assert [(page.more, page.end, page.failure) for page in pages] == [
        (False, None, None),
        (True, None, None),
    ]


def test_saving_fewer_pages_leaves_none_of_the_earlier_ones(tmp_path: Path) -> None:
    page = RawPage(b"x", 200, "https://shop.example/", {}, NOON, Partition("all"), 1)
    (tmp_path / "own.page").write_bytes(b"of the user")
    golden.save(tmp_path, "old", [TrialPage("all", number, page) for number in (1, 2, 3)])

    golden.save(tmp_path, "new", [TrialPage("all", 1, page)])

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "01-all.json",
        "01-all.page",
        "own.page",
        "recipe.toml",
        "rows.json",
    ]


def test_saved_pages_are_as_they_were_if_the_disk_is_full(tmp_path: Path) -> None:
    page = RawPage(b"x" * 1_000, 200, "https://shop.example/", {}, NOON, Partition("all"), 1)
    golden.save(tmp_path, "old", [])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(FileUnusable, match=r"01-all\.page cannot be used: File too large"):
            golden.save(tmp_path, "new", [TrialPage("all", 1, page)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
