"""An organisation's own recipes, as sources that its presets may select."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app.context import House
from app.core.errors import Auth, BadConfig, BadRecipe, Failure, Incomplete, Schema
from app.orgs import secrets
from app.sources.recipes.load import load
from app.sources.recipes.source import OWN, RecipeSource
from app.store import tenancy
from app.store.db import Connection, Pool
from app.store.orgs import org_sources
from workers import recipe_sources
from workers.catalogue_entry import Closed, Nothing
from workers.job import Part
from workers.source import job_of


@dataclass(frozen=True, slots=True)
class Own:
    """One recipe, by name. It is loaded for each attempt of a run."""

    recipe: str
    params: type[Nothing] = Nothing

    async def part(self, context: House, org_id: UUID, choice: Mapping[str, Any], /) -> Part:
        """The recipe's source; if it cannot be opened, it fails when it is collected."""
        del choice
        try:
            source = await _open(context, org_id, self.recipe)
        except Failure as failure:
            source = Closed(f"{OWN}{self.recipe}", failure)
        opened = source if isinstance(source, RecipeSource) else None
        return Part(replace(job_of(opened, org_id), counted="records"), source)


async def offered(connection: Pool | Connection, org_id: UUID) -> dict[str, Own]:
    """The organisation's recipes, by their names in presets: `recipe:<name>`."""
    return {f"{OWN}{name}": Own(name) for name in await org_sources.names(connection, org_id)}


def named(source: str) -> Own:
    """The recipe of that name in a preset, whether it still exists or not."""
    return Own(source.removeprefix(OWN))


async def _open(context: House, org_id: UUID, name: str) -> RecipeSource:
    async with tenancy.org_transaction(context.pool, org_id) as connection:
        stored = await org_sources.one(connection, org_id, name)
    if stored is None:
        raise Incomplete(f"the recipe {name!r} no longer exists")
    try:
        recipe = await asyncio.to_thread(load, stored.recipe)
        resolve = await secrets.resolver(context.pool, context.config, org_id, recipe)
    except BadRecipe as bad:
        raise Schema(f"the recipe cannot be used: {bad}") from None
    except BadConfig as error:
        raise Auth(str(error)) from None
    return await recipe_sources.ready(context, recipe, resolve, org_id)
