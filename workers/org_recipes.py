"""An organisation's own recipes, as sources that its presets may select."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app.context import WorkerContext
from app.core.errors import Auth, BadConfig, BadRecipe, Failure, Incomplete, Schema
from app.orgs import secrets
from app.sources.recipes.load import load
from app.sources.recipes.source import ORG_SOURCE_PREFIX, RecipeSource
from app.store import tenancy
from app.store.db import Connection, Pool
from app.store.orgs import org_sources
from workers import recipe_sources
from workers.catalogue_entry import NoParams, UnavailableSource
from workers.job import PlannedSource
from workers.source import recipe_job


@dataclass(frozen=True, slots=True)
class OrgRecipeSource:
    """One recipe, by name. It is loaded for each attempt of a run."""

    recipe: str
    params: type[NoParams] = NoParams

    async def part(
        self, context: WorkerContext, org_id: UUID, choice: Mapping[str, Any], /
    ) -> PlannedSource:
        """The recipe's source; if it cannot be opened, it fails when it is collected."""
        del choice
        try:
            source = await _open(context, org_id, self.recipe)
        except Failure as failure:
            source = UnavailableSource(f"{ORG_SOURCE_PREFIX}{self.recipe}", failure)
        opened = source if isinstance(source, RecipeSource) else None
        return PlannedSource(replace(recipe_job(opened, org_id), records_stat="records"), source)


async def selectable_recipes(
    connection: Pool | Connection, org_id: UUID
) -> dict[str, OrgRecipeSource]:
    """The organisation's recipes, by their names in presets: `recipe:<name>`."""
    return {
        f"{ORG_SOURCE_PREFIX}{name}": OrgRecipeSource(name)
        for name in await org_sources.names(connection, org_id)
    }


def recipe_named(source: str) -> OrgRecipeSource:
    """The recipe of that name in a preset, whether it still exists or not."""
    return OrgRecipeSource(source.removeprefix(ORG_SOURCE_PREFIX))


async def _open(context: WorkerContext, org_id: UUID, name: str) -> RecipeSource:
    async with tenancy.org_transaction(context.pool, org_id) as connection:
        stored = await org_sources.one(connection, org_id, name)
    if stored is None:
        raise Incomplete(f"the recipe {name!r} no longer exists")
    try:
        recipe = await asyncio.to_thread(load, stored.recipe, checked=True)
        resolve = await secrets.resolver(context.pool, context.config, org_id, recipe)
    except BadRecipe as bad:
        raise Schema(f"the recipe cannot be used: {bad}") from None
    except BadConfig as error:
        raise Auth(str(error)) from None
    return await recipe_sources.open_recipe_source(context, recipe, resolve, org_id)
