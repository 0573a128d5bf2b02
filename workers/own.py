"""An organisation's own recipes, as sources that its presets may hold."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app import secrets
from app.errors import Auth, BadConfig, BadRecipe, Failure, Incomplete, Schema
from app.recipes.load import load
from app.recipes.source import OWN, RecipeSource
from app.resources import House
from app.store import org_sources, tenancy
from app.store.db import Connection, Pool
from workers import recipes
from workers.job import Part
from workers.offer import Closed, Nothing
from workers.source import job_of


@dataclass(frozen=True, slots=True)
class Own:
    """One recipe. It is read anew for each attempt at a run."""

    recipe: str
    params: type[Nothing] = Nothing

    async def part(self, house: House, org_id: UUID, choice: Mapping[str, Any], /) -> Part:
        """See Offered."""
        del choice
        try:
            source = await _opened(house, org_id, self.recipe)
        except Failure as failure:
            source = Closed(f"{OWN}{self.recipe}", failure)
        asked = source if isinstance(source, RecipeSource) else None
        return Part(replace(job_of(asked, org_id), counted="records"), source)


async def offered(connection: Pool | Connection, org_id: UUID) -> dict[str, Own]:
    """The organisation's recipes, by the names that presets call them."""
    return {f"{OWN}{name}": Own(name) for name in await org_sources.names(connection, org_id)}


def named(source: str) -> Own:
    """The recipe that a preset calls so, whether it is still there or not."""
    return Own(source.removeprefix(OWN))


async def _opened(house: House, org_id: UUID, name: str) -> RecipeSource:
    async with tenancy.org_transaction(house.pool, org_id) as connection:
        kept = await org_sources.one(connection, org_id, name)
    if kept is None:
        raise Incomplete(f"there is no recipe {name!r} any more")
    try:
        recipe = await asyncio.to_thread(load, kept.recipe)
        resolve = await secrets.resolver(house.pool, house.config, org_id, recipe)
    except BadRecipe as bad:
        raise Schema(f"the recipe cannot be used: {bad}") from None
    except BadConfig as error:
        raise Auth(str(error)) from None
    return await recipes.ready(house, recipe, resolve, org_id)
