"""Handlers of /collection/sources: an organisation's own recipes, stored as written."""

import asyncio
from dataclasses import replace

import asyncpg

from app.core.errors import BadRecipe, Conflicting, NotThere, Outdated, OverLimit
from app.orgs import secrets
from app.orgs.limits import Allowance
from app.sources.recipes.load import Fault, foreign, load
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import OWN
from app.store import tenancy
from app.store.db import Connection
from app.store.orgs import collection
from app.store.orgs import org_sources as store
from app.store.orgs.org_sources import Kept
from app.web.api import problems, schemas
from app.web.api.context import Answer, Asking


async def list_sources(request: Asking) -> Answer:
    """List the organisation's own sources."""
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        found = await store.all_of(connection, request.org_id)
    lines = [schemas.OwnSourceLine.model_validate(_summary(stored)) for stored in found]
    return Answer(schemas.OwnSources(sources=lines))


async def read_source(request: Asking) -> Answer:
    """Read a source and its recipe as it was written."""
    return _answer(await kept_of(request))


async def create_source(request: Asking) -> Answer:
    """Store a recipe; presets can refer to it as `recipe:NAME`."""
    body: schemas.OwnSourceWanted = request.body
    recipe = await judged(body.recipe)
    if body.name not in ("", recipe.name):
        raise problems.of_field("name", f"differs from the name in the recipe, {recipe.name}")
    created = Kept(recipe.name, body.recipe, 1, request.now, request.now)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        await _check_count(connection, request)
        try:
            await store.add(connection, request.org_id, created)
        except asyncpg.UniqueViolationError:
            raise Conflicting(
                f"a source named {created.name!r} already exists: change it with PUT"
            ) from None
    answer = _answer(created)
    location = f"/collection/sources/{created.name}"
    return Answer(answer.body, {**answer.headers, "location": location})


async def change_source(request: Asking) -> Answer:
    """Replace a source's recipe; attempts that start from now on use it."""
    body: schemas.OwnSourceChange = request.body
    recipe = await judged(body.recipe)
    name: str = request.path["name"]
    if recipe.name != name:
        fix = f'write name = "{name}", or create another source with POST /collection/sources'
        raise BadRecipe([Fault(1, "name", f"is {recipe.name}, but the source is {name}", fix)])
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        before = await _locked(connection, request)
        if before.recipe == body.recipe:
            return _answer(before)
        await store.change(connection, request.org_id, name, body.recipe, request.now)
    revision = before.revision + 1
    return _answer(replace(before, recipe=body.recipe, revision=revision, updated_at=request.now))


async def delete_source(request: Asking) -> Answer:
    """Delete a source that no preset refers to; its items are kept."""
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        stored = await _locked(connection, request)
        source = OWN + stored.name
        presets = await store.chosen_by(connection, request.org_id, source)
        if presets:
            raise Conflicting(
                f"{source} is used by presets: {', '.join(presets)}; remove it from them first"
            )
        await store.drop(connection, request.org_id, stored.name, source)
    return Answer()


async def judged(text: str) -> Recipe:
    """Return the recipe. Raises BadRecipe with every fault, foreign secret references included."""

    def read() -> Recipe:
        recipe = load(text)
        faults = foreign(recipe, secrets.KIND, text)
        if faults:
            raise BadRecipe(faults)
        return recipe

    return await asyncio.to_thread(read)


async def kept_of(request: Asking) -> Kept:
    """Return the stored source that the path names. Raises NotThere."""
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        return _existing(await store.one(connection, request.org_id, request.path["name"]))


async def _locked(connection: Connection, request: Asking) -> Kept:
    await collection.hold(connection, request.org_id)
    stored = _existing(await store.one(connection, request.org_id, request.path["name"]))
    if request.revision not in (None, stored.revision):
        raise Outdated(f"the source is at revision {stored.revision}, not {request.revision}")
    return stored


async def _check_count(connection: Connection, request: Asking) -> None:
    limits = Allowance.of(request.desk.config, await collection.hold(connection, request.org_id))
    count = len(await store.names(connection, request.org_id))
    try:
        limits.check("max_recipes", count + 1)
    except OverLimit as error:
        raise Conflicting(str(error)) from None


def _existing(found: Kept | None) -> Kept:
    if found is None:
        raise NotThere("there is no source with that name")
    return found


def _answer(stored: Kept) -> Answer:
    body = schemas.OwnSource.model_validate({**_summary(stored), "recipe": stored.recipe})
    return Answer(body, {"etag": f'"{stored.revision}"'})


def _summary(stored: Kept) -> dict[str, object]:
    return {
        "name": stored.name,
        "source": OWN + stored.name,
        "revision": stored.revision,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }
