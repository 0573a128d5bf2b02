"""Handlers of dry runs: fetch and parse one page by a recipe, and store nothing."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

from app.authoring.trial import TrialPage
from app.core.enums import Scope
from app.core.errors import BadConfig, BadRecipe
from app.fetch import urls
from app.fetch.authenticated import FetcherOptions, secrets_of
from app.fetch.recipe_clients import fetcher_options
from app.orgs import secrets
from app.sources.recipes.load import load, unset_secrets
from app.sources.recipes.load import secret_references as references
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.web.api import schemas
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.problems import Problem
from app.web.api.secrets import of_missing_key
from app.web.api.sources import load_recipe, stored_source

SecretForms = Sequence[
    str
]  # spellings of the secrets (plain, escaped), which responses must not contain

MAX_ROWS = 20
MAX_REJECTIONS = 10
MAX_STRING_CHARS = 1_000  # characters of one string
MAX_ROWS_CHARS = 200_000  # characters of all rows; further rows are left out


async def try_recipe(request: ApiRequest) -> ApiResponse:
    """Fetch and parse one page by a recipe that is not stored; nothing is written.

    A recipe that references secrets decides where they are sent, so that needs the scope admin.
    """
    body: schemas.DryRunRequest = request.body
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
    page = await request.context.dry_runner.run(source, options)
    return ApiResponse(await asyncio.to_thread(_body, source, page, options))


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


def _body(source: RecipeSource, page: TrialPage, options: FetcherOptions) -> schemas.DryRunResult:
    forms = urls.secret_forms(secrets_of(options))
    raw, failure = page.raw, page.failure
    refusals = [{"key": r.record_id, "reason": r.reason} for r in page.rejected[:MAX_REJECTIONS]]
    body: dict[str, Any] = {
        "source": source.name,
        "partition": page.partition,
        "url": raw and urls.mask(raw.url, forms),
        "status": raw.status if raw else failure and failure.status,
        "bytes": len(raw.body) if raw else 0,
        "asked_seconds": round(page.seconds[0], 3),
        "read_seconds": round(page.seconds[1], 3),
        "found": len(page.rows),
        "refused": len(page.rejected),
        "rows": _rows(page, forms),
        "refusals": _masked(refusals, forms),
        "fields": _fields(source, page, forms),
        "more": page.more,
        "end": page.end,
        "failure": failure
        and {"kind": failure.kind.value, "message": urls.mask(str(failure), forms)},
    }
    return schemas.DryRunResult.model_validate(body)


def _rows(page: TrialPage, forms: SecretForms) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    size = 0
    for item in page.rows[:MAX_ROWS]:
        row = _masked({"key": item.key, "data": dict(item.data)}, forms)
        size += len(json.dumps(row))
        if size > MAX_ROWS_CHARS:
            break
        shown.append(row)
    return shown


def _fields(source: RecipeSource, page: TrialPage, forms: SecretForms) -> list[dict[str, Any]]:
    declared, rows = source.recipe.extract.fields, [item.data for item in page.rows]
    names = dict.fromkeys([*declared, *(name for row in rows for name in row)])
    return [
        {
            "name": name,
            "type": declared[name].type.value if name in declared else "feed",
            **_column((row.get(name) for row in rows), forms),
        }
        for name in names
    ]


def _column(values: Iterable[Any], forms: SecretForms) -> dict[str, Any]:
    """How many of the values are empty, and the first that is not."""
    empty, example = 0, None
    for value in values:
        if value in (None, "", []):
            empty += 1
        elif example is None:
            example = _masked(value, forms)
    long = len(json.dumps(example)) > MAX_STRING_CHARS
    return {"empty": empty, "example": _truncated(str(example)) if long else example}


def _truncated(text: str) -> str:
    return text if len(text) <= MAX_STRING_CHARS else f"{text[:MAX_STRING_CHARS]}…"


def _masked(value: Any, forms: SecretForms) -> Any:
    """The value with secrets masked and long strings truncated: a site may echo a secret."""
    if isinstance(value, str):
        return _truncated(urls.mask(value, forms))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {urls.mask(name, forms): _masked(item, forms) for name, item in pairs}
    if isinstance(value, list):
        return [_masked(item, forms) for item in cast("list[Any]", value)]
    return value
