"""Requests that sources make and the raw responses they receive. Values only, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from types import MappingProxyType

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The rate limits of a host, across all workers.

    `rate`: requests per second. `burst`: requests that may start at once after a pause.
    `concurrency`: requests in progress at once.
    """

    rate: float
    burst: int
    concurrency: int

    def __post_init__(self) -> None:
        if not (0 < self.rate < inf and self.burst >= 1 and self.concurrency >= 1):
            raise ValueError(f"{self}: rate must be more than 0, burst and concurrency at least 1")


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """A request for one page.

    `retry_empty`: retry a 200 response with an empty body, which the site sends now and then.
    `accept`: the media type that the response must have (`application/json`).
    `robots`: send only if the site's robots.txt allows it; for pages made for people.
    `read_only`: a POST that changes nothing at the site, so that it may be sent again.
    `wait`: seconds to wait before sending, as the site has asked.
    `parser_version`: the version of the parser, if it may change; it is not sent. An unchanged
    page that
    another version has parsed is parsed again.
    `secrets`: those that it carries: nothing of the response or a failure shows one of them.
    `check_page`: the number of a page that was read before and is only compared; it is neither
    stored nor counted. 0 for every other page.
    """

    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    method: str = "GET"
    body: bytes | None = None
    accept: str = "application/json"
    retry_empty: bool = False
    robots: bool = False
    read_only: bool = False
    wait: float = 0.0
    parser_version: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    check_page: int = 0


@dataclass(frozen=True, slots=True)
class Partition:
    """The unit of partial failure: a competition, a tracked entity, a feed.

    `key` is unique within its source and the same in every run.
    `expected`: the number of records that the site announces, if it does.
    """

    key: str
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class RawPage:
    """One response. `body` is decoded from its transfer and content encodings only.

    `headers` has lower-case names. `fetched_at` is UTC. `page` counts from 1 within its partition;
    a catalogue page has no partition. `parsed`: the result of parsing in a separate process, for
    sources that use one.
    """

    body: bytes
    status: int
    url: str
    headers: Mapping[str, str]
    fetched_at: datetime
    partition: Partition | None = None
    page: int = 1
    parsed: object | None = None
