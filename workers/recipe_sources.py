"""Recipe sources in a run: how they are opened, and how their items are stored."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from app.context import WorkerContext
from app.core import log
from app.core.records import Item, Record
from app.fetch.recipe_clients import SecretResolver, fetcher_options
from app.sources.recipes.incremental import latest_cursor, sort_key
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.content import cursors, items
from app.store.content.listings import Listing
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from workers.source_group import CompletedPartition, ListingTracker, SourceGroup

_log = log.logger(__name__)


async def open_recipe_source(
    context: WorkerContext, recipe: Recipe, resolve: SecretResolver, org_id: UUID | None = None
) -> RecipeSource:
    """The source of a recipe, with its cursors, and its fetcher opened.

    An organisation's recipe is limited to ORG_MAX_LIMITS, whatever its own limits are.
    """
    source = RecipeSource(recipe, owner="" if org_id is None else org_id.hex)
    if recipe.incremental:
        source = replace(source, cursors=await cursors.cursors(context.pool, org_id, source.name))
    context.open_fetcher(source.fetcher_name, fetcher_options(source, resolve))
    return source


@dataclass(slots=True)
class RecipeItemStorage(SourceGroup):
    """Stores the items of one run's recipe sources, and tracks cursors and listings.

    `sources`: the recipe sources, by name. It is its own ListingTracker.
    """

    org_id: UUID | None
    sources: Mapping[str, RecipeSource]
    records_stat: str = "rows"
    _furthest: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    _listed: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _unlisted: set[str] = field(default_factory=set[str])

    @property
    def listing_tracker(self) -> ListingTracker | None:  # pyright: ignore[reportIncompatibleVariableOverride] - read only
        """This object itself."""
        return self

    def record_key(self, record: Record) -> str:
        return record.key if isinstance(record, Item) else ""

    async def write(
        self, connection: Connection, records: Sequence[Item], now: datetime, run_id: UUID
    ) -> WriteCounts:
        total = WriteCounts()
        for name in dict.fromkeys(item.source for item in records):
            page = [item for item in records if item.source == name]
            written = await items.write(connection, self.org_id, name, page, now, run_id)
            total = total.plus(written)
            self._advance_cursors(name, page, now)
        return total

    def _advance_cursors(self, name: str, page: Iterable[Item], now: datetime) -> None:
        source = self.sources.get(name)
        if source is None or source.recipe.incremental is None:
            return
        incremental = source.recipe.incremental
        for item in page:
            partition_key = (name, item.partition)
            before = self._furthest.get(partition_key)
            cursor = latest_cursor(incremental, [item], before, now)
            if cursor is not None:
                self._furthest[partition_key] = cursor

    async def on_partition_done(self, connection: Connection, done: CompletedPartition) -> None:
        """Move the cursor of a partition that was read to its end: the next run starts there."""
        partition_key = (done.source, done.partition)
        if partition_key not in self._listed:
            self._unlisted.add(done.source)
        source = self.sources.get(done.source)
        if source is not None and done.partition in source.malformed:
            _log.warning(
                "feed.malformed", source=source.name, fault=source.malformed[partition_key[1]]
            )
        if source is None or source.recipe.incremental is None:
            return
        incremental, read_to = source.recipe.incremental, done.started_at.isoformat()
        if incremental.field is not None:
            before = source.cursors.get(done.partition)
            furthest_seen = self._furthest.get(partition_key)
            read_to = max(
                (v for v in (before, furthest_seen) if v is not None), key=sort_key, default=""
            )
        if read_to:
            await cursors.move_cursor(
                connection, self.org_id, partition_key, read_to, done.started_at, done.run_id
            )

    async def record_listing(
        self, connection: Connection, listing: Listing, run_id: UUID, /
    ) -> None:
        """A partition was listed completely."""
        self._listed.add((listing.platform, listing.partition))
        await self.record_partial_listing(connection, listing, run_id)

    async def record_partial_listing(
        self, connection: Connection, listing: Listing, run_id: UUID, /
    ) -> None:
        """A partition was listed in part."""
        del run_id
        await items.mark_seen(
            connection, self.org_id, listing.platform, listing.present, listing.at
        )

    async def record_partitions(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
        /,
    ) -> None:
        """Mark missing items, if the recipe asks for it and no partition was empty."""
        del partitions
        source = self.sources.get(platform)
        if source is None or not source.marks_missing:
            return
        if platform in self._unlisted:
            why = "a partition lists nothing, or rows without a key"
            _log.warning("items.not_marked", source=platform, why=why)
            return
        await items.mark_missing(connection, self.org_id, platform, run_id, at)

    async def revert_absences(self, connection: Connection, platform: str, run_id: UUID, /) -> None:
        """Restore the cursors: rows that could not be read are requested again.

        Items are marked only after the expectations were met.
        """
        source = self.sources.get(platform)
        if source is not None and source.recipe.incremental is not None:
            await cursors.restore(connection, self.org_id, platform, source.cursors, run_id)
