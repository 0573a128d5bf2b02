"""Generated articles and stories for any query. Pure, from a seed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from scripts.standin.world import happens, pick, roll

_OLD_ARTICLES = 30
_OLD_STORIES = 12
_FRONT_STORIES = 60
_SHARED = 10
_SUBJECTS = ("regulation", "earnings", "launch", "dispute", "partnership", "outlook", "recall")
_CATEGORIES = ("Technology", "Business", "Science", "Politics", "Sports", "Finance", "Health")
_PLACES = (("US", "North America"), ("GB", "Europe"), ("ES", "Europe"), ("NG", "Africa"))
_DOMAINS = ("news.example.org", "biz.example.com", "daily.example.net")
Json = dict[str, Any]

# Further fields of an update that the provider's own client requires.
_UNREAD: Json = {
    "article_ids": [],
    "cluster_articles": [],
    "prompt_articles": [],
    "entities": {},
    "sources_urls": {"news.example.org": 3},
    "continent": "Europe",
    "people": [],
    "locations": [],
    "image_prompt": "",
    "reddit_perspective": {"sentiment": 0, "relevant": False, "summary": ""},
    "reddit_threads": [],
    "intra_cluster_statistics": {},
    "silhouette_score": {},
    "markdown_citations": [],
    "confidence": 0.5,
    "relationships": {"nodes": [], "edges": []},
    "mermaid": "",
    "alignment": 0,
}


class News:
    """Articles and stories. Each version of the world adds an article and updates some stories.

    Article k of a query was published `step` after article k - 1; the newest of version 0 at
    `start` (UTC).
    """

    def __init__(self, seed: int, start: datetime, step: timedelta) -> None:
        self._seed = seed
        self._start = start.astimezone(UTC)
        self._step = step

    def articles(self, query: str, version: int) -> list[Json]:
        """Return every article about the query, the newest first."""
        count = _OLD_ARTICLES + version
        return [self._article(query.strip().lower(), k) for k in reversed(range(count))]

    def stories(self, query: str, version: int) -> list[Json]:
        """Return every story about the query, or the front page if it is empty."""
        about = query.strip().lower()
        count = _OLD_STORIES if about else _FRONT_STORIES
        stories = [self._story(about, k, version) for k in range(count)]
        return sorted(stories, key=lambda story: (-story["updated_ts"], story["uuid"]))

    def updates(self, story: Json) -> list[Json]:
        """Return the updates of a story, the newest first."""
        uuids: list[str] = story["update_uuids"]
        return [
            {
                **_UNREAD,
                "uuid": uuid,
                "languages": story["languages"],
                "languages_pct": story["languages_pct"],
                "countries": story["countries"],
                "countries_pct": story["countries_pct"],
                "keywords": story["keywords"],
                "url_safe_title": f"{uuid}-part-{number + 1}",
                "image_url": f"https://news.example.org/{uuid}.jpg",
                "story_uuid": story["uuid"],
                "headline": f"{story['topic']}, part {number + 1}",
                "story": f"What is known of {story['topic']}.",
                "story_update_ts": self._seconds(number),
                "n_articles": 3,
                "key_takeaways": ["One takeaway."],
                "contradictions": [],
                "new_information": "Little.",
                "categories": story["categories"],
            }
            for number, uuid in reversed(list(enumerate(uuids)))
        ]

    def _article(self, about: str, number: int) -> Json:
        # Every tenth article matches all queries.
        owner = "" if number % _SHARED == 0 else about
        key = (self._seed, "article", owner, number)
        uuid = self._uuid(*key)
        domain = pick(_DOMAINS, *key, "domain")
        country, continent = pick(_PLACES, *key, "place")
        category = pick(_CATEGORIES, *key, "category")
        title = f"{(owner or 'markets').title()}: {pick(_SUBJECTS, *key)} {number}"
        image = f"https://{domain}/{uuid}.jpg" if happens(0.5, *key, "image") else None
        return {
            "article_id": str(uuid),
            "article_url": f"https://{domain}/a/{uuid}",
            "as_string_key": f"[{number}]",
            "title": title,
            "eng_title": title,
            "summary": f"A short summary of {title}.",
            "key_points": ["One point."],
            "classification": [category] if happens(0.7, *key, "list") else category,
            "country": country,
            "continent": continent,
            "language": "en",
            "source_id": domain.split(".", maxsplit=1)[0].title(),
            "domain_url": domain,
            "page_rank": 300 + number,
            "pub_date": self._published(number).isoformat().replace("+00:00", "Z"),
            "sentiment": int(roll(*key, "mood") * 3) - 1,
            "keywords": [owner or "news"],
            "entities": {"Organization": [owner.title()] if owner else [], "Product": []},
            "image_url": image,
            "centroid_distance": round(roll(*key, "distance"), 3),
            "cluster_probability": round(roll(*key, "cluster"), 3),
            "provocative": "low",
            "reporting_voice": "Objective",
            "markdown_citation": f"[[{number}]](https://{domain}/a/{uuid})",
        }

    def _story(self, about: str, number: int, version: int) -> Json:
        key = (self._seed, "story", about, number)
        moved = [v for v in range(1, version + 1) if happens(0.1, *key, "moved", v)]
        points = 1 + number % 4 + len(moved)
        moods = [int(roll(*key, "mood", at) * 3) - 1 for at in range(points)]
        stamps = [self._seconds(at - points + (moved[-1] if moved else 0)) for at in range(points)]
        updates = [str(self._uuid(*key, "update", at)) for at in range(points)]
        category = pick(_CATEGORIES, *key, "category")
        topic = f"{(about or category).title()} {pick(_SUBJECTS, *key, 'topic')} {number}"
        # In some stories the last sentiment has no timestamp: the lists differ in length.
        instants = stamps[:-1] if points > 1 and happens(0.1, *key, "uneven") else stamps
        reddit = number % 3 == 0
        return {
            "uuid": str(self._uuid(*key)),
            "topic": topic,
            "topics": [topic],
            "categories": [category],
            "meta_type": "story",
            "countries": {"US": 4, "GB": 2},
            "countries_pct": {"US": 0.67, "GB": 0.33},
            "languages": {"en": 6},
            "languages_pct": {"en": 1.0},
            "sources": {"Example News": 3},
            "sources_urls": {"news.example.org": 3},
            "keywords": [about or "news"],
            "locations": [],
            "people": [],
            "n_articles": [3 + at for at in range(points)],
            "n_updates": points,
            "sentiment": moods,
            "sentiment_timestamps": instants,
            "rolling_sentiment": [sum(moods[: at + 1]) / (at + 1) for at in range(points)],
            "reddit_sentiment": [0.2] if reddit else [],
            "reddit_sentiment_timestamps": stamps[-1:] if reddit else [],
            "generate_image": False,
            "current_update_uuid": updates[-1],
            "requested_update_uuid": updates[-1],
            "update_uuids": updates,
            "updated_ts": stamps[-1],
            "updates": [],
        }

    def _published(self, number: int) -> datetime:
        return self._start + (number - _OLD_ARTICLES + 1) * self._step

    def _seconds(self, number: int) -> int:
        return int((self._start + number * self._step).timestamp())

    def _uuid(self, *words: object) -> UUID:
        return uuid5(NAMESPACE_URL, "/".join(map(str, words)))


def matching(things: list[Json], uuid: str) -> Iterator[Json]:
    """Return the stories with this uuid, as their own or as that of an update."""
    return (one for one in things if uuid == one["uuid"] or uuid in one["update_uuids"])
