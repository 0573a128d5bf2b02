"""What the provider's own client makes of an AskNews: run in an environment that has it."""

# pyright: basic, reportMissingImports=false, reportUnknownMemberType=false

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

from asknews_sdk import AskNewsSDK
from asknews_sdk.api.news import NewsAPI
from asknews_sdk.api.stories import StoriesAPI


def main() -> None:
    """`url token_url`, and as JSON what was seen there by key and by client credentials."""
    url, token_url = sys.argv[1:]
    key = AskNewsSDK(api_key="standin-key", base_url=url, timeout=10)
    client = AskNewsSDK(
        "standin-client",
        "standin-secret",
        scopes={"news", "stories"},
        base_url=url,
        token_url=token_url,
        timeout=10,
    )
    wrong = AskNewsSDK(api_key="wrong", base_url=url, timeout=10)
    seen = {
        "news": _news(key),
        "news_by_token": _news(client),
        "stories": _stories(key),
        "wrong_key": _failure(lambda: _news(wrong)),
        "too_large": _failure(lambda: key.news.search_news("OpenAI", n_articles=102)),
        "refusals": [_failure(lambda: key.stories.search_stories("AMD")) for _ in range(3)],
        "parameters": {
            "news": sorted(inspect.signature(NewsAPI.search_news).parameters),
            "stories": sorted(inspect.signature(StoriesAPI.search_stories).parameters),
        },
    }
    json.dump(seen, sys.stdout)


def _news(sdk: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    offset = 0
    while offset is not None:
        page = sdk.news.search_news(
            "OpenAI", n_articles=20, method="kw", return_type="dicts", offset=offset
        )
        for article in page.as_dicts:
            listed = article.classification
            found.append(
                [
                    str(article.article_id),
                    article.pub_date.timestamp(),
                    article.sentiment,
                    [listed] if isinstance(listed, str) else listed,
                ]
            )
        offset = page.offset
    return found


def _stories(sdk: Any) -> list[list[Any]]:
    page = sdk.stories.search_stories("OpenAI", limit=50, expand_updates=True, max_updates=10)
    return [
        [
            str(story.uuid),
            story.updated_ts,
            [str(update.uuid) for update in story.updates],
            story.sentiment,
            story.sentiment_timestamps,
        ]
        for story in page.stories
    ]


def _failure(ask: Callable[[], object]) -> str:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - its name is what is asked for
        return type(error).__name__
    return "none"


main()
