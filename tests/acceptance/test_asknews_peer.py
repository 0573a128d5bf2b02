"""The pretend AskNews is understood by the provider's own client, and read by us as it reads it."""

import json
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Article, Record, Story
from app.sources.base import Source
from app.sources.sites.asknews import AskNewsNews, AskNewsStories
from app.sources.sites.asknews_limits import AskNewsLimits
from scripts.bench.rivals import ROOT, environment
from scripts.standin.testing import Standin
from tests.clock import NOON

PEER = Path(__file__).with_name("asknews_peer.py")
REQUIREMENT = "asknews==0.14.*"
PART = Partition("OpenAI")

Seen = tuple[dict[str, Any], list[Record], list[Record]]

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def peer() -> Path:
    """The Python that has the provider's client. Skips if it cannot be installed here."""
    try:
        return environment("asknews", REQUIREMENT, cache=ROOT / ".rollcall" / "peers")
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"{REQUIREMENT} cannot be installed: {error}")


@pytest.fixture(scope="module")
def seen(peer: Path) -> Seen:
    """What the client saw, and what we read, of the same AskNews."""
    with Standin.start(events=20) as web:
        for fault in ({"status": 403}, {"status": 429}, {"status": 429, "code": 429_001}):
            web.fault("/v1/stories", "status", match="query=AMD", times=1, **fault)
        articles = _read(AskNewsNews(web.asknews_url))
        stories = _read(AskNewsStories(web.asknews_url))
        return _theirs(peer, web), articles, stories


def _theirs(peer: Path, web: Standin) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 - our own script
        [str(peer), str(PEER), web.url, web.token_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _read(source: Source) -> list[Record]:
    headers = {"authorization": "Bearer standin-key"}
    with httpx.Client(trust_env=False, headers=headers, timeout=10) as client:
        return [record for raw in _pages(client, source) for record in source.parse(raw)]


def _pages(client: httpx.Client, source: Source) -> Generator[RawPage]:
    asking = source.pages(PART)
    try:
        request: SourceRequest = next(asking)
        while True:
            answer = client.get(request.url, params=list(request.params))
            raw = RawPage(answer.content, answer.status_code, request.url, {}, NOON, PART)
            yield raw
            request = asking.send(raw)
    except StopIteration:
        return


def test_our_articles_are_those_of_the_providers_client_by_key_and_by_token(
    seen: Seen,
) -> None:
    theirs, articles, _ = seen

    ours = [
        [a.article_id, a.published_at.timestamp(), a.sentiment, list(a.categories)]
        for a in articles
        if isinstance(a, Article)
    ]

    assert len(ours) == 30
    assert theirs["news"] == theirs["news_by_token"] == ours


def test_our_stories_are_those_of_the_providers_client(
    seen: Seen,
) -> None:
    theirs, _, stories = seen
    pairs = zip(theirs["stories"], (s for s in stories if isinstance(s, Story)), strict=True)

    for (uuid, told_at, updates, moods, stamps), story in pairs:
        assert (story.story_uuid, story.told_at.timestamp()) == (uuid, told_at)
        assert [update.update_uuid for update in story.updates] == updates
        points = [(point.at.timestamp(), point.value) for point in story.sentiment]
        assert points == list(zip(stamps, moods, strict=False))


def test_the_providers_client_knows_the_pretend_refusals_for_what_they_are(seen: Seen) -> None:
    theirs, _, _ = seen

    assert theirs["wrong_key"] == "UnauthorizedError"
    assert theirs["too_large"] == "ValidationError"
    assert theirs["refusals"] == [
        "ForbiddenError",
        "RateLimitExceededError",
        "ConcurrencyLimitExceededError",
    ]


@pytest.mark.parametrize("job", ["news", "stories"])
def test_we_ask_in_words_that_the_providers_client_knows(seen: Seen, job: str) -> None:
    sources: dict[str, Source] = {
        "news": AskNewsNews("", since={"OpenAI": NOON}, pace=AskNewsLimits(100)),
        "stories": AskNewsStories("", since={"OpenAI": NOON}),
    }

    request = next(sources[job].pages(PART))

    asked = {name for name, _ in request.params}
    assert asked <= set(seen[0]["parameters"][job])
