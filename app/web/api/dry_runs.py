"""Handlers of dry runs: fetch and parse one page by a recipe, and store nothing."""

from http import HTTPStatus

from app.core.enums import Scope
from app.core.errors import BadConfig, BadRecipe
from app.fetch.recipe_clients import fetcher_options
from app.orgs import secrets
from app.sources.recipes.load import load, unset_secrets
from app.sources.recipes.load import secret_references as references
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.web.api import dry_run_pool
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, post
from app.web.api.problems import Problem
from app.web.api.schemas.dry_runs import DryRunRequest, DryRunResult
from app.web.api.secrets import of_missing_key
from app.web.api.sources import load_recipe, stored_source


async def try_recipe(request: ApiRequest) -> ApiResponse:
    """Fetch and parse one page by a recipe that is not stored; nothing is written.

    A recipe that references secrets decides where they are sent, so that needs the scope admin.
    """
    body: DryRunRequest = request.body
    async with request.context.dry_runner.slot(request.org_id):
        recipe = await load_recipe(request, body.recipe)
        if references(recipe) and not request.principal.scope.allows(Scope.ADMIN):
            detail = "sending secrets by a recipe that is not stored needs a token of scope admin"
            raise Problem(HTTPStatus.FORBIDDEN, detail)
        return await _dry_run(request, recipe, body.recipe)


async def try_source(request: ApiRequest) -> ApiResponse:
    """Fetch and parse one page by a source's recipe; nothing is written."""
    stored = await stored_source(request)
    async with request.context.dry_runner.slot(request.org_id):
        recipe = load(stored.recipe, checked=True)
        return await _dry_run(request, recipe, stored.recipe)


async def _dry_run(request: ApiRequest, recipe: Recipe, text: str) -> ApiResponse:
    source = RecipeSource(recipe, owner=request.org_id.hex)
    options = fetcher_options(source, await _resolver(request, recipe, text))
    brought = await request.context.dry_runner.run(source, options)
    return ApiResponse(DryRunResult.model_validate(brought))


async def _resolver(request: ApiRequest, recipe: Recipe, text: str) -> secrets.SecretResolver:
    context = request.context
    names = [name for name, _ in await secrets.names(context.pool, request.org_id)]
    missing = unset_secrets(recipe, names, text)
    if missing:
        raise BadRecipe(missing)
    try:
        return await secrets.resolver(context.pool, context.config, request.org_id, recipe)
    except BadConfig as error:
        raise of_missing_key(error) from None


SOURCES = "/collection/sources"
SOURCE = "/collection/sources/{name}"
ENDPOINTS: tuple[Endpoint, ...] = (
    post(
        f"{SOURCES}/dry-run",
        Scope.OPERATE,
        try_recipe,
        DryRunResult,
        body=DryRunRequest,
        seconds=dry_run_pool.REQUEST_SECONDS,
        once=False,
    ),
    post(
        f"{SOURCE}/dry-run",
        Scope.OPERATE,
        try_source,
        DryRunResult,
        seconds=dry_run_pool.REQUEST_SECONDS,
        once=False,
    ),
)
