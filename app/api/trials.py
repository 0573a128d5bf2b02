"""The addresses of dry runs: what one page of a recipe has, and nothing of it is stored."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

from app import secrets
from app.api import shapes
from app.api.desk import Answer, Asking
from app.api.problems import Problem
from app.api.secrets import without_key
from app.api.sources import judged, kept_of
from app.authoring.trial import Seen
from app.errors import BadConfig, BadRecipe
from app.fetch import urls
from app.fetch.keyed import Opening, shown_nowhere
from app.fetch.openings import opening
from app.recipes.load import secrets as references
from app.recipes.load import unset
from app.recipes.model import Recipe
from app.recipes.source import RecipeSource
from app.words import Scope

Forms = Sequence[str]  # in which secrets may be written

ROWS = 20
REFUSALS = 10
LONGEST = 1_000  # characters of a text
LARGEST = 200_000  # characters of all rows, after which no more are shown


async def try_recipe(asking: Asking) -> Answer:
    """Ask for one page by a recipe that is not kept, and say what it has; nothing is stored.

    A recipe which names secrets decides where they are sent: that takes a token of scope admin.
    """
    body: shapes.RecipeToTry = asking.body
    recipe = await judged(body.recipe)
    if references(recipe) and not asking.who.scope.allows(Scope.ADMIN):
        detail = "to send secrets by a recipe that is not kept takes a token of scope admin"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    return await _tried(asking, recipe, body.recipe)


async def try_source(asking: Asking) -> Answer:
    """Ask for one page by a source's recipe, and say what it has; nothing is stored."""
    kept = await kept_of(asking)
    return await _tried(asking, await judged(kept.recipe), kept.recipe)


async def _tried(asking: Asking, recipe: Recipe, text: str) -> Answer:
    source = RecipeSource(recipe, owner=asking.org_id.hex)
    how = opening(source, await _resolver(asking, recipe, text))
    seen = await asking.desk.bench.tried(asking.org_id, source, how)
    return Answer(await asyncio.to_thread(_shown, source, seen, how))


async def _resolver(asking: Asking, recipe: Recipe, text: str) -> secrets.Resolve:
    desk = asking.desk
    known = [name for name, _ in await secrets.names(desk.pool, asking.org_id)]
    missing = unset(recipe, known, text)
    if missing:
        raise BadRecipe(missing)
    try:
        return await secrets.resolver(desk.pool, desk.config, asking.org_id, recipe)
    except BadConfig as error:
        raise without_key(error) from None


def _shown(source: RecipeSource, seen: Seen, how: Opening) -> shapes.Tried:
    forms = urls.written(shown_nowhere(how))
    raw, failure = seen.raw, seen.failure
    refusals = [{"key": r.record_id, "reason": r.reason} for r in seen.refused[:REFUSALS]]
    told: dict[str, Any] = {
        "source": source.name,
        "partition": seen.partition,
        "url": raw and urls.masked(raw.url, forms),
        "status": raw.status if raw else failure and failure.status,
        "bytes": len(raw.body) if raw else 0,
        "asked_seconds": round(seen.seconds[0], 3),
        "read_seconds": round(seen.seconds[1], 3),
        "found": len(seen.rows),
        "refused": len(seen.refused),
        "rows": _rows(seen, forms),
        "refusals": _seemly(refusals, forms),
        "fields": _fields(source, seen, forms),
        "more": seen.more,
        "failure": failure
        and {"kind": failure.kind.value, "message": urls.masked(str(failure), forms)},
    }
    return shapes.Tried.model_validate(told)


def _rows(seen: Seen, forms: Forms) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    size = 0
    for item in seen.rows[:ROWS]:
        row = _seemly({"key": item.key, "data": dict(item.data)}, forms)
        size += len(json.dumps(row))
        if size > LARGEST:
            break
        shown.append(row)
    return shown


def _fields(source: RecipeSource, seen: Seen, forms: Forms) -> list[dict[str, Any]]:
    said, rows = source.recipe.extract.fields, [item.data for item in seen.rows]
    names = dict.fromkeys([*said, *(name for row in rows for name in row)])
    return [
        {
            "name": name,
            "type": said[name].type.value if name in said else "feed",
            **_filled((row.get(name) for row in rows), forms),
        }
        for name in names
    ]


def _filled(values: Iterable[Any], forms: Forms) -> dict[str, Any]:
    empty, example = 0, None
    for value in values:
        if value in (None, "", []):
            empty += 1
        elif example is None:
            example = _seemly(value, forms)
    long = len(json.dumps(example)) > LONGEST
    return {"empty": empty, "example": _cut(str(example)) if long else example}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _seemly(value: Any, forms: Forms) -> Any:
    """A value to be shown: a site may say a secret back to us, and at any length."""
    if isinstance(value, str):
        return _cut(urls.masked(value, forms))
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {urls.masked(name, forms): _seemly(item, forms) for name, item in pairs}
    if isinstance(value, list):
        return [_seemly(item, forms) for item in cast("list[Any]", value)]
    return value
