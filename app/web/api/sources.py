"""Handlers of /collection/sources: an organisation's own recipes, stored as written."""

from dataclasses import replace

import asyncpg

from app.core.enums import Scope
from app.core.errors import BadRecipe, Conflict, NotFound, StaleEdit
from app.orgs import secrets
from app.orgs.limits import OrgLimits
from app.sources.recipes.load import RecipeFault, disallowed_secrets
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import ORG_SOURCE_PREFIX
from app.store.db import Connection
from app.store.orgs import collection, org_sources, recipe_revisions
from app.store.orgs.org_sources import OrgRecipe
from app.store.orgs.recipe_revisions import RecipeRevision
from app.web.api import dry_run_pool, problems
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, post, put
from app.web.api.schemas.sources import (
    OrgSourceBody,
    OrgSourceChange,
    OrgSourceCreate,
    OrgSourceList,
    OrgSourceSummary,
)


async def list_sources(request: ApiRequest) -> ApiResponse:
    """List the organisation's own sources."""
    async with request.transaction() as connection:
        found = await org_sources.all_of(connection, request.org_id)
    lines = [OrgSourceSummary.model_validate(_summary(stored)) for stored in found]
    return ApiResponse(OrgSourceList(sources=lines))


async def read_source(request: ApiRequest) -> ApiResponse:
    """Read a source and its recipe as it was written."""
    return _answer(await stored_source(request))


async def create_source(request: ApiRequest) -> ApiResponse:
    """Store a recipe; presets can refer to it as `recipe:NAME`."""
    body: OrgSourceCreate = request.body
    recipe = await load_recipe(request, body.recipe)
    if body.name not in ("", recipe.name):
        raise problems.of_field("name", f"differs from the name in the recipe, {recipe.name}")
    created = OrgRecipe(recipe.name, body.recipe, 1, request.now, request.now)
    async with request.transaction() as connection:
        await _check_count(connection, request)
        try:
            await org_sources.add(connection, request.org_id, created)
        except asyncpg.UniqueViolationError:
            raise Conflict(
                f"a source named {created.name!r} already exists: change it with PUT"
            ) from None
        await _record(connection, request, created)
    answer = _answer(created)
    location = f"/collection/sources/{created.name}"
    return ApiResponse(answer.body, {**answer.headers, "location": location})


async def change_source(request: ApiRequest) -> ApiResponse:
    """Replace a source's recipe; attempts that start from now on use it."""
    body: OrgSourceChange = request.body
    recipe = await load_recipe(request, body.recipe)
    name: str = request.path["name"]
    if recipe.name != name:
        fix = f'write name = "{name}", or create another source with POST /collection/sources'
        raise BadRecipe(
            [RecipeFault(1, "name", f"is {recipe.name}, but the source is {name}", fix)]
        )
    async with request.transaction() as connection:
        before = await _locked(connection, request)
        if before.recipe == body.recipe:
            return _answer(before)
        await org_sources.change(connection, request.org_id, name, body.recipe, request.now)
        revision = before.revision + 1
        after = replace(before, recipe=body.recipe, revision=revision, updated_at=request.now)
        await _record(connection, request, after)
    return _answer(after)


async def delete_source(request: ApiRequest) -> ApiResponse:
    """Delete a source that no preset refers to; its items are kept."""
    async with request.transaction() as connection:
        stored = await _locked(connection, request)
        source = ORG_SOURCE_PREFIX + stored.name
        presets = await org_sources.chosen_by(connection, request.org_id, source)
        if presets:
            raise Conflict(
                f"{source} is used by presets: {', '.join(presets)}; remove it from them first"
            )
        await org_sources.drop(connection, request.org_id, stored.name, source)
    return ApiResponse()


async def load_recipe(request: ApiRequest, text: str) -> Recipe:
    """Return the recipe, checked in a sandbox process.

    Raises BadRecipe with every fault, foreign secret references included, and Problem (429) if the
    organisation has had too many recipes checked.
    """
    recipe = await request.context.dry_runner.load(request.org_id, text)
    faults = disallowed_secrets(recipe, secrets.REFERENCE_PREFIX, text)
    if faults:
        raise BadRecipe(faults)
    return recipe


async def stored_source(request: ApiRequest) -> OrgRecipe:
    """Return the stored source that the path names. Raises NotFound."""
    async with request.transaction() as connection:
        return _existing(await org_sources.one(connection, request.org_id, request.path["name"]))


async def _locked(connection: Connection, request: ApiRequest) -> OrgRecipe:
    await collection.lock_org(connection, request.org_id)
    stored = _existing(await org_sources.one(connection, request.org_id, request.path["name"]))
    if request.revision not in (None, stored.revision):
        raise StaleEdit(f"the source is at revision {stored.revision}, not {request.revision}")
    return stored


async def _record(connection: Connection, request: ApiRequest, stored: OrgRecipe) -> None:
    by = request.principal.name
    revision = RecipeRevision(stored.name, stored.revision, stored.recipe, by, stored.updated_at)
    await recipe_revisions.record(connection, request.org_id, revision)


async def _check_count(connection: Connection, request: ApiRequest) -> None:
    limits = OrgLimits.of(
        request.context.config, await collection.lock_org(connection, request.org_id)
    )
    count = len(await org_sources.names(connection, request.org_id))
    if fault := limits.fault("max_recipes", count + 1):
        raise Conflict(fault)


def _existing(found: OrgRecipe | None) -> OrgRecipe:
    if found is None:
        raise NotFound("there is no source with that name")
    return found


def _answer(stored: OrgRecipe) -> ApiResponse:
    body = OrgSourceBody.model_validate({**_summary(stored), "recipe": stored.recipe})
    return ApiResponse(body, {"etag": f'"{stored.revision}"'})


def _summary(stored: OrgRecipe) -> dict[str, object]:
    return {
        "name": stored.name,
        "source": ORG_SOURCE_PREFIX + stored.name,
        "revision": stored.revision,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


SOURCES = "/collection/sources"
SOURCE = "/collection/sources/{name}"
ENDPOINTS: tuple[Endpoint, ...] = (
    get(SOURCES, Scope.READ, list_sources, OrgSourceList),
    post(
        SOURCES,
        Scope.ADMIN,
        create_source,
        OrgSourceBody,
        status=201,
        body=OrgSourceCreate,
        etag=True,
        seconds=dry_run_pool.REQUEST_SECONDS,
    ),
    get(SOURCE, Scope.READ, read_source, OrgSourceBody, etag=True),
    put(
        SOURCE,
        Scope.ADMIN,
        change_source,
        OrgSourceBody,
        body=OrgSourceChange,
        etag=True,
        if_match=True,
        seconds=dry_run_pool.REQUEST_SECONDS,
    ),
    delete(SOURCE, Scope.ADMIN, delete_source, status=204, if_match=True, errors=(409,)),
)
