"""How a source of any job is kept for an organisation: its records as items of its own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.records import JSON, Article, Item, OddsEvent, Record, Story
from app.store import items, news
from app.store.boards import Listing
from app.store.db import Connection
from app.store.items import Written
from workers.job import Job, Presence, Turned


def item(job: Job, source: str, record: Record) -> Item:
    """A record as an item: its key as the job tells it, its data as JSON; decimals are strings."""
    if isinstance(record, Item):
        return record
    return Item(source, job.key(record), _data(record))


def _data(record: Record) -> dict[str, JSON]:
    match record:
        case OddsEvent():
            # A site that lists the same prices in another order has said nothing new.
            record = replace(record, prices=tuple(sorted(record.prices, key=_place)))
            return msgspec.to_builtins(record)
        case Article() | Story():
            # Found under two entities it is one item, and must not change with each find.
            data: dict[str, JSON] = msgspec.to_builtins(record)
            del data["entity"]
            return data
        case _:
            return msgspec.to_builtins(record)


def _place(price: Any) -> tuple[str, str, str]:
    return (price.market, price.outcome, str(price.line))


def reader(org_id: UUID, source: str) -> str:
    """Who has read a source's entities up to some instant: an organisation, not the house."""
    return f"{org_id}/{source}"


def shelved(job: Job, org_id: UUID, source: str) -> Job:
    """The job, but its source's records become items of the organisation, told in one way."""

    async def write(
        connection: Connection, records: Sequence[Record], now: datetime, run_id: UUID
    ) -> Written:
        page = [item(job, source, record) for record in records]
        return await items.write(connection, org_id, source, page, now, run_id)

    async def turned(connection: Connection, part: Turned) -> None:
        where = (reader(org_id, source), part.partition)
        await news.move_cursor(connection, where, part.begun, part.run_id)

    async def unmoved(connection: Connection, keys: Collection[str], now: datetime) -> None:
        await items.touch(connection, org_id, source, keys, now)

    # Named with its type: what is handed to `replace` no type checker looks at.
    presence: Presence | None = Whole(org_id) if job.presence else None
    return replace(
        job,
        write=write,
        counted="records",
        stored="inserted",
        stats=None,
        turned=turned if job.turned else None,
        unmoved=unmoved,
        presence=presence,
    )


@dataclass(slots=True)
class Whole:
    """What a source has listed in this attempt; once that is all it has, the rest is missing.

    An attempt that takes up another's run has not seen what that one had read: it marks nothing.
    The next run does.
    """

    org_id: UUID
    keys: set[str] = field(default_factory=set[str])
    partitions: set[str] = field(default_factory=set[str])
    in_part: bool = False

    async def listed(self, connection: Connection, listing: Listing, run_id: UUID) -> None:
        """A partition was listed from end to end."""
        del connection, run_id
        self.keys.update(listing.present)
        self.partitions.add(listing.partition)

    async def glimpsed(self, connection: Connection, listing: Listing, run_id: UUID) -> None:
        """A partition was listed in part: what is missing is not known."""
        del connection, listing, run_id
        self.in_part = True

    async def catalogued(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
    ) -> None:
        """All partitions were listed."""
        del run_id
        if not self.in_part and self.partitions >= set(partitions):
            await items.listed(connection, self.org_id, platform, self.keys, at)

    async def doubted(self, connection: Connection, platform: str, run_id: UUID) -> None:
        """Nothing is marked until a source has brought what it should: nothing to take back."""
        del connection, platform, run_id
