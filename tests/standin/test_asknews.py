"""AskNews: who is let in, how pages follow each other, and how it says no."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from scripts.standin.asknews import Access
from scripts.standin.testing import Standin

START = datetime(2026, 9, 1, 12, tzinfo=UTC)
KEY = {"authorization": "Bearer standin-key"}


def token(web: Standin, client: httpx.Client, scope: str, secret: str = "standin-secret") -> Any:  # noqa: S107
    return client.post(
        web.token_url,
        auth=("standin-client", secret),
        data={"grant_type": "client_credentials", "scope": scope},
    )


def search(web: Standin, client: httpx.Client, **asked: Any) -> httpx.Response:
    return client.get(f"{web.asknews_url}/news/search", params=asked, headers=KEY)


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic standin-key"])
def test_without_a_good_token_the_answer_is_401(
    web: Standin, client: httpx.Client, header: str
) -> None:
    answer = client.get(f"{web.asknews_url}/stories", headers={"authorization": header})

    assert answer.status_code == 401
    assert answer.json()["code"] == 401000


def test_an_oauth_token_opens_what_its_scope_names_and_nothing_else(
    web: Standin, client: httpx.Client
) -> None:
    issued = token(web, client, "news").json()
    headers = {"authorization": f"Bearer {issued['access_token']}"}

    news = client.get(f"{web.asknews_url}/news/search", headers=headers)
    stories = client.get(f"{web.asknews_url}/stories", headers=headers)

    assert issued["expires_in"] == 3600
    assert news.status_code == 200
    assert (stories.status_code, stories.json()["code"]) == (403, 403000)


def test_wrong_client_credentials_get_no_token(web: Standin, client: httpx.Client) -> None:
    answer = token(web, client, "news", "wrong")

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"


def test_the_pages_of_a_search_follow_their_offset_to_the_end(
    web: Standin, client: httpx.Client
) -> None:
    pages = [search(web, client, query="OpenAI", n_articles=20, offset=o).json() for o in (0, 20)]

    ids = [article["article_id"] for page in pages for article in page["as_dicts"]]
    assert [page["offset"] for page in pages] == [20, None]
    assert len(ids) == len(set(ids)) == 30


def test_two_searches_share_some_articles(web: Standin, client: httpx.Client) -> None:
    found = [search(web, client, query=query, n_articles=100).json() for query in ("AMD", "Intel")]

    one, two = ({article["article_id"] for article in page["as_dicts"]} for page in found)
    assert len(one & two) == 3


def test_every_version_of_the_world_has_a_new_article(
    broken: Standin, client: httpx.Client
) -> None:
    before = search(broken, client, query="OpenAI", n_articles=100).json()["as_dicts"]

    broken.advance()
    after = search(broken, client, query="OpenAI", n_articles=100).json()["as_dicts"]

    assert after[1:] == before
    assert after[0]["pub_date"] > before[0]["pub_date"]


@pytest.mark.parametrize("n_articles", ["102", "0", "many"])
def test_an_impossible_page_size_is_422_with_a_list(
    web: Standin, client: httpx.Client, n_articles: str
) -> None:
    answer = search(web, client, n_articles=n_articles)

    assert answer.status_code == 422
    assert answer.json()["code"] == 422000
    assert answer.json()["detail"][0]["loc"] == ["query", "n_articles"]


def test_stories_are_listed_page_by_page_and_found_by_their_id(
    web: Standin, client: httpx.Client
) -> None:
    url = f"{web.asknews_url}/stories"
    first = client.get(url, headers=KEY).json()
    rest = client.get(url, params={"offset": 10, "limit": 100}, headers=KEY).json()
    past = client.get(url, params={"offset": rest["offset"]}, headers=KEY).json()

    story = client.get(f"{url}/{first['stories'][0]['uuid']}", headers=KEY).json()

    stories = [*first["stories"], *rest["stories"]]
    assert (first["offset"], rest["offset"], past["stories"]) == (10, 60, [])
    assert len({one["uuid"] for one in stories}) == 60
    assert any(len(s["sentiment"]) != len(s["sentiment_timestamps"]) for s in stories)
    assert first["stories"][0]["updates"] == []
    assert story["updates"][0]["story_uuid"] == story["uuid"]


def test_the_free_plan_gives_smaller_pages_and_no_reddit(client: httpx.Client) -> None:
    with Standin.start(events=20, start=START, access=Access(plan="free")) as web:
        page = search(web, client, n_articles=50).json()
        reddit = client.get(f"{web.asknews_url}/stories", params={"reddit": 3}, headers=KEY)

    assert len(page["as_dicts"]) == page["offset"] == 10
    assert (reddit.status_code, reddit.json()["code"]) == (403, 403011)


def test_more_calls_than_the_bucket_holds_are_429_and_limits_say_when(
    client: httpx.Client,
) -> None:
    access = Access(rate=0.001, burst=2)

    with Standin.start(events=20, start=START, access=access) as web:
        answers = [search(web, client, query="x") for _ in range(3)]
        limits = client.get(f"{web.asknews_url}/profiles/me/limits", headers=KEY).json()

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["code"] == 429000
    assert limits["request_rate_remaining"] == 0
    assert limits["retry_after"] > 0


def test_the_ping_asks_for_no_token(web: Standin, client: httpx.Client) -> None:
    assert client.get(f"{web.asknews_url}/").json()["app"]
