"""The form of a preset: its name, and its sources with their parameters, one a line."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import Scope
from app.web.api.problems import FieldError, Problem, of_fields
from app.web.api.schemas.presets import PresetSourceBody
from app.web.dashboard import actions
from app.web.dashboard.editing import api_calls
from app.web.dashboard.session_auth import Form, SessionUser

PRESETS, PRESET = "/collection/presets", "/collection/presets/{preset_id}"


async def presets(request: Request, user: SessionUser) -> Response:
    """The presets that can be chosen, and the form of a new one."""
    return await _form(request, user, {"name": "", "sources": ""})


async def edit(request: Request, user: SessionUser) -> Response:
    """The form of a preset. Raises HTTPException 404."""
    return await _form(request, user, None)


async def save(request: Request, user: SessionUser, form: Form) -> Response:
    """Store or delete the preset of the form. Raises HTTPException 403, 404, 503."""
    values = {"name": form.get("name", "").strip(), "sources": form.get("sources", "")}
    try:
        if form.get("do") == "delete" and "preset_id" in request.path_params:
            await api_calls.call(request, user, ("DELETE", PRESET), request.path_params)
            return actions.redirect("/edit/presets?done=deleted")
        body = {"name": values["name"], "sources": _parsed(values["sources"])}
        preset_id = await _store(request, user, form, body)
    except Problem as problem:
        return await _form(request, user, values, problem, form.get("revision", ""))
    return actions.redirect(f"/edit/presets/{preset_id}?done=saved")


async def _store(request: Request, user: SessionUser, form: Form, body: dict[str, Any]) -> UUID:
    if "preset_id" not in request.path_params:
        created: Any = await api_calls.call(request, user, ("POST", PRESETS), values=body)
        return created.id
    path, revision = request.path_params, api_calls.revision_of(form.get("revision", ""))
    await api_calls.call(request, user, ("PATCH", PRESET), path, values=body, revision=revision)
    return path["preset_id"]


async def _form(
    request: Request,
    user: SessionUser,
    values: dict[str, str] | None,
    problem: Problem | None = None,
    revision: str = "",
) -> Response:
    """The page of a preset; of all and a new one if the path names none. `values` None: stored."""
    stored: Any = None
    if "preset_id" in request.path_params:
        stored = await api_calls.read(request, user, PRESET, request.path_params)
    listed = (await api_calls.read(request, user, PRESETS)).presets
    recipes = (await api_calls.read(request, user, "/collection/sources")).sources
    built_in = {source.source for preset in listed if preset.built_in for source in preset.sources}
    return api_calls.form_page(
        request,
        user,
        "preset",
        problem,
        stored=stored,
        listed=listed,
        known=sorted(built_in) + [recipe.source for recipe in recipes],
        values=values or {"name": stored.name, "sources": _lines(stored.sources)},
        revision=revision or (stored.revision if stored else ""),
        may_edit=user.principal.scope.allows(Scope.ADMIN)
        and not (stored is not None and stored.built_in),
    )


def _lines(sources: Sequence[PresetSourceBody]) -> str:
    """The sources as the form shows them: `bet9ja {"competitions": ["a"]}`, one a line."""
    return "\n".join(
        f"{one.source} {json.dumps(one.params, ensure_ascii=False)}" if one.params else one.source
        for one in sources
    )


def _parsed(text: str) -> list[dict[str, Any]]:
    """The sources of the lines. Raises Problem for parameters that are not a JSON object."""
    sources: list[dict[str, Any]] = []
    faults: list[FieldError] = []
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, line in lines:
        name, _, params = line.partition(" ")
        try:
            sources.append({"source": name, "params": json.loads(params or "{}")})
        except (ValueError, RecursionError):
            message = 'the parameters are not a JSON object such as {"pages": 3}'
            faults.append(FieldError(field="sources", message=message, line=number, key=name))
    if faults:
        raise of_fields(faults)
    return sources
