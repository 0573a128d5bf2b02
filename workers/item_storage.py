"""Item storage: how an organisation stores the records of a built-in source as its own items."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.core.records import JSON, Article, Item, OddsEvent, Record, Story
from app.store.content import items, news
from app.store.content.items import ItemWriteCounts
from app.store.content.listings import Listing
from app.store.db import Connection
from workers.job import CompletedPartition, Job, ListingTracker


def to_item(job: Job, source: str, record: Record) -> Item:
    """The record as an item, with the job's key; its data is JSON, decimals as strings."""
    if isinstance(record, Item):
        return record
    return Item(source, job.record_key(record), _data(record))


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


def store_as_items(job: Job, org_id: UUID, source: str) -> Job:
    """The job with its source's records stored as items of the organisation, and uniform stats."""

    async def write(
        connection: Connection, records: Sequence[Record], now: datetime, run_id: UUID
    ) -> ItemWriteCounts:
        page = [to_item(job, source, record) for record in records]
        return await items.write(connection, org_id, source, page, now, run_id)

    async def turned(connection: Connection, part: CompletedPartition) -> None:
        partition_key = (cursor_owner(org_id, source), part.partition)
        await news.move_cursor(connection, partition_key, part.started_at, part.run_id)

    async def unmoved(connection: Connection, keys: Collection[str], now: datetime) -> None:
        await items.touch(connection, org_id, source, keys, now)

    # Annotated because type checkers do not check arguments of `replace`.
    presence: ListingTracker | None = OrgListingTracker(org_id) if job.listing_tracker else None
    return replace(
        job,
        write=write,
        records_stat="records",
        stats=None,
        on_partition_done=turned if job.on_partition_done else None,
        on_unchanged_page=unmoved,
        listing_tracker=presence,
    )


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
