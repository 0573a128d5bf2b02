"""What one attempt has collected of a source: pages, partitions, requests and time."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from app.core.errors import Incomplete
from app.core.messages import Partition
from app.core.records import Record, Rejected
from app.fetch.client import RequestCounts
from app.sources.base import ListingEnd
from app.sources.coverage import Coverage
from app.store.content.listings import Listing
from app.store.content.pages import StoredPage
from app.store.runs.progress import Counts, SourceProgress
from workers.pages import FetchedPage

UNNAMED_RECORD = re.compile(r"#\d+:\d+")  # the name of a rejected record without a key
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PageResult:
    """A page and its content. `end`: how the source ended the partition, if this is its last page.

    An unchanged page has no records to store.
    """

    page: FetchedPage
    content: StoredPage
    accepted: Sequence[Record] = ()
    rejected: Sequence[Rejected] = ()
    packed: bytes | None = None
    end: ListingEnd | Incomplete | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What this attempt has stored of one partition.

    `started_at`: when its first page was requested. `read_at`: when its last one was fetched.
    `unnamed`: some rejected records have no key.
    """

    partition: Partition
    counts: Counts = field(default_factory=Counts)
    keys: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    unnamed: bool = False
    started_at: datetime | None = None
    read_at: datetime | None = None
    coverage: Coverage = field(default_factory=Coverage)

    def after(self, result: PageResult, counts: Counts) -> "Progress":
        """The progress once this page is stored, which counts as `counts`."""
        content, fetched_at = result.content, result.page.raw.fetched_at
        return Progress(
            self.partition,
            self.counts.plus(counts),
            self.keys | content.keys,
            self.refused | content.refused,
            self.unnamed or any(UNNAMED_RECORD.fullmatch(name) for name in content.refused),
            self.started_at or result.page.requested_at,
            fetched_at,
            self.coverage.merge(content.coverage),
        )

    def shortfall(self, end: ListingEnd | Incomplete) -> Incomplete | None:
        """Why the partition was not listed completely, or None if it was."""
        if isinstance(end, Incomplete):
            return end
        return end.shortfall(len(self.keys), len(self.keys | self.refused))

    def listing(self, source: str) -> Listing:
        present, at = self.keys | self.refused, self.read_at or _NEVER
        return Listing(source, self.partition.key, self.keys, present, at)


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests and time that a source has used: by earlier attempts, and since by this one."""

    earlier: SourceProgress
    tally: RequestCounts = field(default_factory=RequestCounts)
    started: float = field(default_factory=time.monotonic)

    def added_to(self, row: SourceProgress) -> SourceProgress:
        """The row with what has been used until now."""
        earlier, tally = self.earlier, self.tally
        return replace(
            row,
            requests=earlier.requests + tally.requests,
            retries=earlier.retries + tally.retries,
            bytes=earlier.bytes + tally.bytes,
            throttled_ms=earlier.throttled_ms + tally.throttled_ms,
            classes=dict(Counter(earlier.classes) + tally.classes),
            duration_seconds=earlier.duration_seconds + time.monotonic() - self.started,
        )
