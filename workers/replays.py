"""Which parser reads stored pages of a source again, and how its records are stored."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from app.core.config import Config
from app.core.enums import COLLECTION_TASK, StoreMode
from app.core.errors import BadParameters, UnknownJob
from app.core.records import Record, Rejected
from app.runs.replay import ReplaySource
from app.sources.base import Source
from app.sources.recipes.load import load
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import ORG_SOURCE_PREFIX, RecipeSource
from app.store.db import Connection
from app.store.orgs import org_sources
from workers import item_storage, recipe_dir, registry
from workers.job import Job
from workers.recipe_sources import RecipeItemStorage
from workers.source_group import SourceGroup


@dataclass(frozen=True, slots=True)
class PageReader:
    """Reads one page of an owner again. `as_stored`: a record as the owner's rows hold it."""

    reader: ReplaySource
    as_stored: Callable[[Record], Record]


def reader_of(config: Config, source: str) -> ReplaySource:
    """The reader for the operator's pages of a source, `source:NAME` for a recipe.

    Raises UnknownJob, and what `recipe_reader` raises.
    """
    if source.startswith(recipe_dir.KEY_PREFIX):
        return recipe_reader(config, source.removeprefix(recipe_dir.KEY_PREFIX))
    built_in = _built_in(config)
    if source not in built_in:
        recipes = [
            recipe_dir.KEY_PREFIX + recipe.name for recipe in recipe_dir.load_recipes(config)
        ]
        known = ", ".join([*sorted(built_in), *recipes])
        raise UnknownJob(f"there is no source {source!r}; known: {known}")
    return _of_site(*built_in[source])


def recipe_reader(config: Config, name: str) -> ReplaySource:
    """The reader for pages of that recipe. A replay does not move the source's cursors.

    Raises BadRecipe if there is none or it has faults, and BadParameters if its rows are
    observations, which a replay would duplicate.
    """
    recipe = recipe_dir.find_recipe(config, name).usable()
    return _of_recipe(recipe, recipe_dir.JOB, None)


async def reader_of_page(
    config: Config, connection: Connection, source: str, org_id: UUID | None
) -> PageReader:
    """The reader for one page of this owner, by the source's name in its pages.

    Raises UnknownJob, BadRecipe and BadParameters.
    """
    built_in = _built_in(config)
    if org_id is None:
        site = built_in.get(source)
        found = recipe_reader(config, source) if site is None else _of_site(*site)
        return PageReader(found, lambda record: record)
    if source.startswith(ORG_SOURCE_PREFIX):
        name = source.removeprefix(ORG_SOURCE_PREFIX)
        stored = await org_sources.one(connection, org_id, name)
        if stored is None:
            raise UnknownJob(f"there is no recipe {name!r} any more")
        recipe = load(stored.recipe, checked=True)
        return PageReader(_of_recipe(recipe, COLLECTION_TASK, org_id), lambda record: record)
    if source not in built_in:
        raise UnknownJob(f"there is no source {source!r} any more")
    _, group, parser = built_in[source]
    write = RecipeItemStorage(org_id, {}).write
    reader = ReplaySource(COLLECTION_TASK, parser, write, org_id)

    def as_item(record: Record) -> Record:
        is_kept = not isinstance(record, Rejected)
        return item_storage.to_item(group, source, record) if is_kept else record

    return PageReader(reader, as_item)


def _of_site(job: Job, group: SourceGroup, parser: Source) -> ReplaySource:
    return ReplaySource(job.name, parser, group.write)


def _of_recipe(recipe: Recipe, job: str, org_id: UUID | None) -> ReplaySource:
    mode = recipe.storage.mode
    if mode is not StoreMode.UPSERT:
        raise BadParameters(
            f"{recipe.name} stores by {mode}: each row is an observation of its run and cannot be"
            " replayed"
        )
    source = RecipeSource(recipe, owner="" if org_id is None else org_id.hex)
    return ReplaySource(job, source, RecipeItemStorage(org_id, {}).write, org_id)


def _built_in(config: Config) -> dict[str, tuple[Job, SourceGroup, Source]]:
    return {
        parser.name: (job, group, parser)
        for job, group in registry.source_groups(config)
        for parser in group.every_source(config)
    }
