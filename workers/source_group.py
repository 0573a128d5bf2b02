"""Source groups: the sources that a job collects, and how their records are stored."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from app.core.config import Config
from app.core.records import Record
from app.fetch.authenticated import Login
from app.sources.base import Source
from app.sources.expectations import Expectations
from app.store.content.listings import Listing
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from app.store.runs.progress import COUNT_NAMES, SourceProgress
from workers import expectations


@dataclass(frozen=True, slots=True)
class CompletedPartition:
    """A partition whose last page has been stored. `started_at`: when its first was requested."""

    source: str
    partition: str
    started_at: datetime
    run_id: UUID


class ListingTracker(Protocol):
    """Records which keys a source's listings contained, so that missing records can be marked."""

    async def record_listing(
        self, connection: Connection, listing: Listing, run_id: UUID, /
    ) -> None:
        """A partition was listed completely. Called in the transaction of its last page."""
        ...

    async def record_partial_listing(
        self, connection: Connection, listing: Listing, run_id: UUID, /
    ) -> None:
        """A partition was listed in part: missing keys mean nothing."""
        ...

    async def record_partitions(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
        /,
    ) -> None:
        """All partitions of the source were listed completely in this run."""
        ...

    async def revert_absences(self, connection: Connection, platform: str, run_id: UUID, /) -> None:
        """The source broke an expectation: missing keys and moved cursors are not trusted."""
        ...


class SourceGroup(ABC):
    """The sources that a job collects, and how their records are stored. A base class.

    `records_stat`: the name in a run's stats for records. `never_empty`: a source that returns no
    records at all has failed. `has_cursors`: a partition is continued where the last run ended.
    `listing_tracker`: records what the listings contained, if that is tracked.
    """

    records_stat: str = "records"
    never_empty: bool = False
    has_cursors: bool = False
    listing_tracker: ListingTracker | None = None

    def every_source(self, config: Config) -> Sequence[Source]:
        """All sources that it can collect: their limits, and the parsers of a replay."""
        del config
        return ()

    def login(self, config: Config) -> Login | None:
        del config
        return None

    @abstractmethod
    def record_key(self, record: Record) -> str:
        """The key of a record."""

    @abstractmethod
    async def write(
        self, connection: Connection, records: Sequence[Any], now: datetime, run_id: UUID
    ) -> WriteCounts:
        """Store the records of a page."""

    def row_stats(self, row: SourceProgress) -> dict[str, int]:
        """The counts that a source's row adds to the run's stats."""
        counted = {name: getattr(row.counts, name) for name in COUNT_NAMES if name != "points"}
        return {self.records_stat if name == "records" else name: n for name, n in counted.items()}

    async def on_partition_done(  # noqa: B027 - a hook that need not be used
        self, connection: Connection, done: CompletedPartition
    ) -> None:
        """Called in the transaction of a partition's last page."""

    async def on_unchanged_page(  # noqa: B027 - a hook that need not be used
        self, connection: Connection, keys: Collection[str], now: datetime
    ) -> None:
        """Called with the keys of the records of a page that is unchanged."""

    def expectations(self, source: Source) -> Expectations:
        """What is expected of a source; a run that breaks it is a partial failure."""
        return expectations.expectations_of(source)


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """One source of a run, and the group that says how its records are read and stored."""

    group: SourceGroup
    source: Source


def run_totals(parts: Iterable[PlannedSource], rows: Iterable[SourceProgress]) -> dict[str, int]:
    """A run's totals over its sources, by their names in `stats`."""
    groups = {part.source.name: part.group for part in parts}
    total = Counter[str]()
    for group in groups.values():
        total.update(group.row_stats(SourceProgress("")))
    for row in rows:  # also sources of an earlier attempt that the plan no longer has
        total.update(groups.get(row.source, next(iter(groups.values()))).row_stats(row))
    return dict(total)
