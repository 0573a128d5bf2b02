"""Item storage: how an organisation stores the records of a built-in source as its own items."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.core.records import JSON, Article, Item, OddsEvent, Record, Story
from app.sources.base import Source
from app.sources.expectations import Expectations
from app.store.content import items, news
from app.store.content.listings import Listing
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from workers.source_group import CompletedPartition, SourceGroup


def to_item(group: SourceGroup, source: str, record: Record) -> Item:
    """The record as an item, with the group's key; its data is JSON, decimals as strings."""
    if isinstance(record, Item):
        return record
    return Item(source, group.record_key(record), _data(record))


def _data(record: Record) -> dict[str, JSON]:
    match record:
        case OddsEvent():
            # The same prices in another order are no change.
            record = replace(record, prices=tuple(sorted(record.prices, key=_price_key)))
            return msgspec.to_builtins(record)
        case Article() | Story():
            # Found under two entities it is one item, which must not change with each of them.
            data: dict[str, JSON] = msgspec.to_builtins(record)
            del data["entity"]
            return data
        case _:
            return msgspec.to_builtins(record)


def _price_key(price: Any) -> tuple[str, str, str]:
    return (price.market, price.outcome, str(price.line))


def cursor_owner(org_id: UUID, source: str) -> str:
    """The owner of an organisation's cursors for a source."""
    return f"{org_id}/{source}"


class OrgItemStorage(SourceGroup):
    """Stores the records of one source of a group as items of an organisation."""

    def __init__(self, group: SourceGroup, org_id: UUID, source: str) -> None:
        self._group, self._org_id, self._source = group, org_id, source
        self.never_empty = group.never_empty
        self.has_cursors = group.has_cursors
        self.listing_tracker = OrgListingTracker(org_id) if group.listing_tracker else None

    def record_key(self, record: Record) -> str:
        """The group's key."""
        return self._group.record_key(record)

    async def write(
        self, connection: Connection, records: Sequence[Record], now: datetime, run_id: UUID
    ) -> WriteCounts:
        page = [to_item(self._group, self._source, record) for record in records]
        return await items.write(connection, self._org_id, self._source, page, now, run_id)

    async def on_partition_done(self, connection: Connection, done: CompletedPartition) -> None:
        """Move the organisation's own cursor, if the group has cursors."""
        if self.has_cursors:
            partition_key = (cursor_owner(self._org_id, self._source), done.partition)
            await news.move_cursor(connection, partition_key, done.started_at, done.run_id)

    async def on_unchanged_page(
        self, connection: Connection, keys: Collection[str], now: datetime
    ) -> None:
        """Note that the items were seen."""
        await items.touch(connection, self._org_id, self._source, keys, now)

    def expectations(self, source: Source) -> Expectations:
        """The group's expectations."""
        return self._group.expectations(source)


@dataclass(slots=True)
class OrgListingTracker:
    """The keys a source has listed in this attempt; once it is complete, other items are missing.

    An attempt that continues a run has not seen the partitions of earlier attempts: it marks
    nothing, the next run does.
    """

    org_id: UUID
    keys: set[str] = field(default_factory=set[str])
    partitions: set[str] = field(default_factory=set[str])
    incomplete: bool = False

    async def record_listing(self, connection: Connection, listing: Listing, run_id: UUID) -> None:
        """A partition was listed completely."""
        del connection, run_id
        self.keys.update(listing.present)
        self.partitions.add(listing.partition)

    async def record_partial_listing(
        self, connection: Connection, listing: Listing, run_id: UUID
    ) -> None:
        """A partition was listed in part: missing keys are not known."""
        del connection, listing, run_id
        self.incomplete = True

    async def record_partitions(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
    ) -> None:
        """Mark missing items, if this attempt listed all partitions completely."""
        if not self.incomplete and self.partitions >= set(partitions):
            await items.mark_unlisted(connection, self.org_id, platform, self.keys, at, run_id)

    async def revert_absences(self, connection: Connection, platform: str, run_id: UUID) -> None:
        """Nothing to undo: items are marked only after the expectations were met."""
        del connection, platform, run_id
