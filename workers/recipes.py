"""What a run does with sources that users wrote: makes them ready, and keeps what they find."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from app import log
from app.fetch.openings import Resolve, opening
from app.recipes.incremental import furthest, order
from app.recipes.model import Recipe
from app.recipes.source import RecipeSource
from app.records import Item, Record
from app.resources import House
from app.store import items, readings
from app.store.boards import Listing
from app.store.db import Connection
from app.store.items import Written
from workers.job import Turned

_log = log.logger(__name__)


async def ready(
    house: House, recipe: Recipe, resolve: Resolve, org_id: UUID | None = None
) -> RecipeSource:
    """The source of a recipe, told how far it has been read, with its window open.

    An organisation's asks no harder than `STRANGERS`, whatever it says.
    """
    source = RecipeSource(recipe, owner="" if org_id is None else org_id.hex)
    if recipe.incremental:
        source = replace(source, cursors=await readings.cursors(house.pool, org_id, source.name))
    house.window_for(source.window, opening(source, resolve))
    return source


def key(record: Record) -> str:
    """What tells an item of a source from another."""
    return record.key if isinstance(record, Item) else ""


@dataclass(slots=True)
class Keeping:
    """How the items of one run's sources are kept. `sources`: those that users wrote, by name.

    What is listed, turned and catalogued is as `Presence` and `Job.turned` have it.
    """

    org_id: UUID | None
    sources: Mapping[str, RecipeSource]
    _furthest: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    _listed: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _empty: set[str] = field(default_factory=set[str])

    async def write(
        self, connection: Connection, records: Sequence[Item], now: datetime, run_id: UUID
    ) -> Written:
        """Write a page of items."""
        total = Written()
        for name in dict.fromkeys(item.source for item in records):
            page = [item for item in records if item.source == name]
            written = await items.write(connection, self.org_id, name, page, now, run_id)
            total = total.plus(written)
            self._follow(name, page)
        return total

    def _follow(self, name: str, page: Iterable[Item]) -> None:
        source = self.sources.get(name)
        if source is None or source.recipe.incremental is None:
            return
        incremental = source.recipe.incremental
        for item in page:
            where = (name, item.partition)
            best = furthest(incremental, [item], self._furthest.get(where))
            if best is not None:
                self._furthest[where] = best

    async def turned(self, connection: Connection, turned: Turned) -> None:
        """A partition has been read to its end: the next run begins there."""
        where = (turned.source, turned.partition)
        if where not in self._listed:
            self._empty.add(turned.source)
        source = self.sources.get(turned.source)
        if source is not None and turned.partition in source.malformed:
            _log.warning("feed.malformed", source=source.name, fault=source.malformed[where[1]])
        if source is None or source.recipe.incremental is None:
            return
        incremental, read_to = source.recipe.incremental, turned.begun.isoformat()
        if incremental.field is not None:
            before = source.cursors.get(turned.partition)
            found = self._furthest.get(where)
            read_to = max((v for v in (before, found) if v is not None), key=order, default="")
        if read_to:
            await readings.move_cursor(
                connection, self.org_id, where, read_to, turned.begun, turned.run_id
            )

    async def listed(self, connection: Connection, listing: Listing, run_id: UUID, /) -> None:
        """See Presence."""
        self._listed.add((listing.platform, listing.partition))
        await self.glimpsed(connection, listing, run_id)

    async def glimpsed(self, connection: Connection, listing: Listing, run_id: UUID, /) -> None:
        """See Presence."""
        del run_id
        await items.seen(connection, self.org_id, listing.platform, listing.present, listing.at)

    async def catalogued(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
        /,
    ) -> None:
        """Mark what the whole listing lacks, if the recipe says so and no part of it was empty."""
        del partitions
        source = self.sources.get(platform)
        if source is None or not source.marks_missing:
            return
        if platform in self._empty:
            why = "a part of it lists nothing, or rows without a key"
            _log.warning("items.not_marked", source=platform, why=why)
            return
        await items.mark_missing(connection, self.org_id, platform, run_id, at)

    async def doubted(self, connection: Connection, platform: str, run_id: UUID, /) -> None:
        """See Presence. Nothing is marked until a source has brought what it should."""
