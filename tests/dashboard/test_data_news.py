"""The pages of articles and stories, with their sentiment over time."""

import re

from tests.dashboard.collected import HOSTILE, JOB, collected
from tests.dashboard.fixtures import Scene
from tests.dashboard.server import Site, cells, shown


async def test_articles_have_title_sentiment_entity_run_and_tick(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.article("Arsenal win", 1)
    await known.article("Arsenal lose", -1, days=1)
    await known.article("Nobody knows", None, days=2)

    page = await shown(site, "/data/articles")

    text = cells(page)
    assert re.search(r"Arsenal win .* \+1 Arsenal", text)
    assert re.search(r"Nobody knows .* \W Arsenal", text)
    assert f'href="/runs/{known.runs[-1]}"' in page
    assert f'href="/jobs/{JOB}/ticks/' in page
    assert page.index("Arsenal win") < page.index("Arsenal lose")


async def test_the_sentiment_of_articles_is_drawn_by_day(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    for title, sentiment in (("a", 1), ("b", 1), ("c", -1)):
        await known.article(title, sentiment, days=3)
    await known.article("d", 1, days=1)

    page = await shown(site, "/data/articles")

    day = re.search(r'<tr><th scope="row">[\d-]+</th>(<td class="number">3</td>.*?)</tr>', page)
    assert day is not None
    assert cells(day[1]).split() == ["3", "2", "1", "+0.33"]
    assert 'aria-label="Mean sentiment of articles' in page


async def test_entity_and_words_select_articles(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.article("Arsenal win", 1)

    assert "Arsenal win" in await shown(site, "/data/articles?entity=Arsenal&q=WIN")
    assert "Arsenal win" not in await shown(site, "/data/articles?entity=Chelsea")
    assert "Arsenal win" not in await shown(site, "/data/articles?q=other")


async def test_a_story_shows_the_course_of_its_sentiment(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    story = await known.story("The transfer", [-0.5, 0.1, 0.75])

    listed = await shown(site, "/data/stories")
    page = await shown(site, f"/data/stories/{story}")

    assert f'href="/data/stories/{story}"' in listed
    assert "+0.75" in listed
    assert 'class="sparkline"' in listed
    assert "The 3 values as a table" in page
    assert "-0.500" in page
    assert f'href="/runs/{known.runs[-1]}"' in page
    await shown(site, "/data/stories/999999", 404)
    await shown(site, "/data/stories/99999999999999999999999", 400)


async def test_only_web_addresses_become_links(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.article(HOSTILE, 1, url="javascript:alert(1)")
    await known.article("fine", 1, url="https://paper.example/a")

    page = await shown(site, "/data/articles")

    assert 'href="javascript' not in page
    assert 'href="https://paper.example/a" rel="noopener noreferrer nofollow"' in page
