"""The addresses of an organisation's own sources: recipes, kept as they were written."""

import asyncio
from dataclasses import replace

import asyncpg

from app import secrets
from app.allowance import Allowance
from app.api import problems, shapes
from app.api.desk import Answer, Asking
from app.errors import BadRecipe, Conflicting, NotThere, Outdated, OverLimit
from app.recipes.load import Fault, foreign, load
from app.recipes.model import Recipe
from app.recipes.source import OWN
from app.store import collection, tenancy
from app.store import org_sources as store
from app.store.db import Connection
from app.store.org_sources import Kept


async def list_sources(asking: Asking) -> Answer:
    """List the organisation's own sources."""
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        found = await store.all_of(connection, asking.org_id)
    lines = [shapes.OwnSourceLine.model_validate(_told(kept)) for kept in found]
    return Answer(shapes.OwnSources(sources=lines))


async def read_source(asking: Asking) -> Answer:
    """Give a source's recipe as it was written."""
    return _shown(await kept_of(asking))


async def create_source(asking: Asking) -> Answer:
    """Keep a recipe; presets may hold it as `recipe:NAME` from now on."""
    body: shapes.OwnSourceWanted = asking.body
    recipe = await judged(body.recipe)
    if body.name not in ("", recipe.name):
        raise problems.of_field("name", f"the recipe says that its name is {recipe.name}")
    made = Kept(recipe.name, body.recipe, 1, asking.now, asking.now)
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        await _check_room(connection, asking)
        try:
            await store.add(connection, asking.org_id, made)
        except asyncpg.UniqueViolationError:
            raise Conflicting(f"there is a source {made.name!r} already: PUT it") from None
    answer = _shown(made)
    return Answer(answer.body, {**answer.headers, "location": f"/collection/sources/{made.name}"})


async def change_source(asking: Asking) -> Answer:
    """Put another recipe in its place; attempts at runs from now on go by it."""
    body: shapes.OwnSourceChange = asking.body
    recipe = await judged(body.recipe)
    name: str = asking.path["name"]
    if recipe.name != name:
        mend = f'write name = "{name}", or make another source with POST /collection/sources'
        raise BadRecipe([Fault(1, "name", f"is {recipe.name}, where {name} is changed", mend)])
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        before = await _held(connection, asking)
        if before.recipe == body.recipe:
            return _shown(before)
        await store.change(connection, asking.org_id, name, body.recipe, asking.now)
    grown = before.revision + 1
    return _shown(replace(before, recipe=body.recipe, revision=grown, updated_at=asking.now))


async def delete_source(asking: Asking) -> Answer:
    """Delete a source that no preset holds; what it has collected stays."""
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        kept = await _held(connection, asking)
        source = OWN + kept.name
        presets = await store.chosen_by(connection, asking.org_id, source)
        if presets:
            raise Conflicting(f"{source} is in a preset: {', '.join(presets)}; take it out first")
        await store.drop(connection, asking.org_id, kept.name, source)
    return Answer()


async def judged(text: str) -> Recipe:
    """The recipe. Raises BadRecipe with every fault, secrets that are not its own among them."""

    def read() -> Recipe:
        recipe = load(text)
        faults = foreign(recipe, secrets.KIND, text)
        if faults:
            raise BadRecipe(faults)
        return recipe

    return await asyncio.to_thread(read)


async def kept_of(asking: Asking) -> Kept:
    """The source that the address names. Raises NotThere."""
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        return _there(await store.one(connection, asking.org_id, asking.path["name"]))


async def _held(connection: Connection, asking: Asking) -> Kept:
    await collection.hold(connection, asking.org_id)
    kept = _there(await store.one(connection, asking.org_id, asking.path["name"]))
    if asking.revision not in (None, kept.revision):
        raise Outdated(f"the source is at revision {kept.revision}, not {asking.revision}")
    return kept


async def _check_room(connection: Connection, asking: Asking) -> None:
    allowance = Allowance.of(asking.desk.config, await collection.hold(connection, asking.org_id))
    have = len(await store.names(connection, asking.org_id))
    try:
        allowance.check("max_recipes", have + 1)
    except OverLimit as error:
        raise Conflicting(str(error)) from None


def _there(found: Kept | None) -> Kept:
    if found is None:
        raise NotThere("there is no source of that name")
    return found


def _shown(kept: Kept) -> Answer:
    body = shapes.OwnSource.model_validate({**_told(kept), "recipe": kept.recipe})
    return Answer(body, {"etag": f'"{kept.revision}"'})


def _told(kept: Kept) -> dict[str, object]:
    return {
        "name": kept.name,
        "source": OWN + kept.name,
        "revision": kept.revision,
        "created_at": kept.created_at,
        "updated_at": kept.updated_at,
    }
