"""What a source asks for and what it is sent back. Values only: nothing here touches a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard a host may be asked, by all workers together.

    `rate`: requests per second. `burst`: requests that may come at once after a rest.
    `concurrency`: requests under way at once.
    """

    rate: float
    burst: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Request:
    """One page to ask for.

    `retry_empty`: the site answers 200 with an empty body now and then; ask again.
    `accept`: the media type without which the answer is no data (`application/json`).
    `robots`: ask only if the site's robots.txt lets us; for pages made for people.
    `wait`: seconds for which the site said beforehand that it wants to be left alone.
    `reader`: who reads the answer, if that may change; it is not sent. A page that another reader
    has read is read again although it is unchanged.
    """

    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    method: str = "GET"
    body: bytes | None = None
    accept: str = "application/json"
    retry_empty: bool = False
    robots: bool = False
    wait: float = 0.0
    reader: str = ""


@dataclass(frozen=True, slots=True)
class Partition:
    """The unit of partial failure: a competition, a tracked entity, a feed.

    `key` is unique within its source and the same in every run.
    `expected`: how many records the site says there are, if it says so beforehand.
    """

    key: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """One answer, as it came. `body` is decoded from its transfer encoding and nothing more.

    `headers` has lower-case names. `fetched_at` is UTC. `page` counts from 1 within its partition;
    a catalogue page has no partition. `reading`: what a process of its own has read in it, for a
    source that wants that.
    """

    body: bytes
    status: int
    url: str
    headers: Mapping[str, str]
    fetched_at: datetime
    partition: Partition | None = None
    page: int = 1
    reading: object | None = None
