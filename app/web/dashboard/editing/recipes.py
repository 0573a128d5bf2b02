"""The form of a recipe: its faults, a dry run, what differs from what is stored, and revisions."""

from collections.abc import Sequence
from difflib import unified_diff
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.sources.recipes.load import MAX_RECIPE_LENGTH
from app.store.orgs import recipe_revisions
from app.web.api.problems import Problem
from app.web.dashboard import actions
from app.web.dashboard.editing import api_calls
from app.web.dashboard.session_auth import Form, SessionUser

SOURCES, SOURCE = "/collection/sources", "/collection/sources/{name}"
MAX_BYTES = 9 * MAX_RECIPE_LENGTH + 10_000  # of a form: each byte may be escaped
BEGIN = """name = "shop"
about = "What the source has"
"""


async def recipes(request: Request, user: SessionUser) -> Response:
    """The organisation's recipes, and the form of a new one."""
    return await _form(request, user, "", BEGIN)


async def edit(request: Request, user: SessionUser) -> Response:
    """The form of a recipe with its text as stored, or of an earlier revision.

    Raises HTTPException 404.
    """
    name = request.path_params["name"]
    wanted = request.query_params.get("revision", "")
    text = await _earlier(request, user, name, wanted) if wanted else None
    return await _form(request, user, name, text, earlier=wanted)


async def save(request: Request, user: SessionUser, form: Form) -> Response:
    """Check, try, store or delete the recipe of the form. Raises HTTPException 403, 404, 503."""
    name = request.path_params.get("name", "")
    text = form.get("recipe", "").replace("\r\n", "\n")
    done: dict[str, Any] = {}
    try:
        match form.get("do"):
            case "save":
                stored = await _store(request, user, form, text)
                return actions.redirect(f"/edit/recipes/{quote(stored)}?done=saved")
            case "delete" if name:
                await api_calls.call(request, user, ("DELETE", SOURCE), {"name": name})
                return actions.redirect("/edit/recipes?done=deleted")
            case "try":
                operation = ("POST", f"{SOURCES}/dry-run")
                done["tried"] = await api_calls.call(
                    request, user, operation, values={"recipe": text}
                )
            case _:
                await api_calls.check_recipe(request, user, text)
                done["checked"] = True
    except Problem as problem:
        done["problem"] = problem
    done["revision"] = api_calls.revision_of(form.get("revision", ""))
    return await _form(request, user, name, text, **done)


async def _store(request: Request, user: SessionUser, form: Form, text: str) -> str:
    name = request.path_params.get("name", "")
    values = {"recipe": text}
    if not name:
        created: Any = await api_calls.call(request, user, ("POST", SOURCES), values=values)
        return created.name
    revision = api_calls.revision_of(form.get("revision", ""))
    await api_calls.call(
        request, user, ("PUT", SOURCE), {"name": name}, values=values, revision=revision
    )
    return name


async def _form(
    request: Request, user: SessionUser, name: str, text: str | None, **more: Any
) -> Response:
    """The page of a recipe; of all and a new one if it has no name. `text` None: as stored."""
    stored = await api_calls.read(request, user, SOURCE, {"name": name}) if name else None
    shown = stored.recipe if text is None and stored is not None else text or ""
    values: dict[str, Any] = {
        "recipe_name": name,
        "text": shown,
        "stored": stored,
        "listed": [] if name else (await api_calls.read(request, user, SOURCES)).sources,
        "revisions": await _revisions(request, user, name) if name else [],
        "difference": difference(stored.recipe, shown) if stored is not None else [],
        "may_try": user.may_operate,
        "revision": None,
        "tried": None,
        "checked": False,
        "earlier": "",
    }
    return api_calls.form_page(request, user, "recipe", more.get("problem"), **(values | more))


def difference(before: str, after: str) -> Sequence[tuple[str, str]]:
    """The lines that differ, with three around them, each with `+`, `-`, `@` or a blank."""
    lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
    return [(line[:1], line[1:] if line[:1] in "+- " else line) for line in lines]


async def _earlier(request: Request, user: SessionUser, name: str, wanted: str) -> str:
    """The text of an earlier revision. Raises HTTPException 404."""
    revision, text = api_calls.revision_of(wanted), None
    if revision is not None:
        async with api_calls.own_rows(request, user) as (connection, org_id):
            text = await recipe_revisions.text_of(connection, org_id, name, revision)
    if text is None:
        raise HTTPException(404, "This revision is not kept.")
    return text


async def _revisions(request: Request, user: SessionUser, name: str) -> list[dict[str, Any]]:
    async with api_calls.own_rows(request, user) as (connection, org_id):
        return await recipe_revisions.all_of(connection, org_id, name)
