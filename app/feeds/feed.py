"""What a feed is once it is read: entries as plain values, and what could not be read."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from app.records import Rejected

Entry = dict[str, Any]
"""One entry: every key of `FIELDS`, null or empty where the feed has none.

`published` and `updated` are UTC. `summary` and `content` are as the feed has them, often HTML.
`categories` is a list of texts, `enclosures` of `{"url", "type", "length"}`.
`faults`: what could not be read as it stands, a sentence each; that field is null then.
"""

FIELDS = (
    "id",
    "url",
    "title",
    "published",
    "updated",
    "summary",
    "content",
    "author",
    "categories",
    "enclosures",
    "image",
    "comments",
    "language",
    "faults",
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is read. A feed beyond it is refused as TooLarge; an entry beyond it is rejected.

    `size`, `malformed_size`: bytes of a feed, and of one that is not well-formed.
    `entries`: of a feed. `malformed_entries`: those that are broken themselves.
    `depth`: of nested elements. `text`: characters of one field.
    """

    size: int = 16 * 1024 * 1024
    malformed_size: int = 2 * 1024 * 1024
    entries: int = 10_000
    malformed_entries: int = 1_000
    depth: int = 200
    text: int = 1_000_000


DEFAULT = Bounds()


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed as it was read.

    `kind`: `rss`, `rdf`, `atom` or `json`. `rejected`: entries that could not be read.
    `malformed`: what is wrong with the feed as a whole, if it was read all the same.
    `ttl`: for how long the feed says that it need not be asked for again, as `ttl` or `sy:` says.
    `skip_hours`, `skip_days`: hours (UTC, 0 to 23) and week days (Monday is 0) when it rests.
    """

    kind: str
    title: str | None
    url: str | None
    entries: tuple[Entry, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    malformed: str | None = None
    ttl: timedelta | None = None
    skip_hours: frozenset[int] = field(default_factory=frozenset[int])
    skip_days: frozenset[int] = field(default_factory=frozenset[int])


def entry(faults: list[str] | None = None, **values: Any) -> Entry:
    """An entry with every field, those of `values` as said. `faults` may still grow."""
    made: Entry = dict.fromkeys(FIELDS)
    made |= {"categories": [], "enclosures": [], "faults": []} | values
    if faults is not None:
        made["faults"] = faults
    return made
