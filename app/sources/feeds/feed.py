"""The result of reading a feed: entries as plain values, and rejected entries."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from app.core.records import Rejected

Entry = dict[str, Any]
"""One entry: every key of `FIELDS`, null or empty where the feed has no value.

`published` and `updated` are UTC. `summary` and `content` are unchanged, often HTML.
`categories` is a list of strings, `enclosures` of `{"url", "type", "length"}`.
`faults` lists what could not be read or was assumed, one message each.
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
    """Size limits. A feed that exceeds one raises TooLarge; an entry that exceeds one is rejected.

    `size`: bytes of a feed. `malformed_size`: characters of a feed that is not well-formed.
    `entries`: entries of a feed. `malformed_entries`: entries that are not well-formed themselves.
    `depth`: nested elements. `text`: characters of one field.
    """

    size: int = 16 * 1024 * 1024
    malformed_size: int = 2 * 1024 * 1024
    entries: int = 10_000
    malformed_entries: int = 1_000
    depth: int = 200
    text: int = 1_000_000


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed that was read.

    `kind`: `rss`, `rdf`, `atom` or `json`. `rejected`: entries that could not be read.
    `malformed`: what is wrong with the feed as a whole, if it could still be read. `cut_off`: it
    ends before its root element does.
    `ttl`: the minimum time between two requests, from `ttl` or `sy:updatePeriod`.
    `skip_hours`, `skip_days`: hours (UTC, 0 to 23) and weekdays (Monday is 0) without updates.
    """

    kind: str
    title: str | None
    url: str | None
    entries: tuple[Entry, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    malformed: str | None = None
    cut_off: bool = False
    ttl: timedelta | None = None
    skip_hours: frozenset[int] = field(default_factory=frozenset[int])
    skip_days: frozenset[int] = field(default_factory=frozenset[int])


def new_entry(faults: list[str] | None = None, **values: Any) -> Entry:
    """Return an entry with every field, set from `values`. `faults` is shared, not copied."""
    made: Entry = dict.fromkeys(FIELDS)
    made |= {"categories": [], "enclosures": [], "faults": []} | values
    if faults is not None:
        made["faults"] = faults
    return made
