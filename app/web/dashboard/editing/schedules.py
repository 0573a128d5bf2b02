"""The form of a collection's schedule, with its instants previewed, and the way back to an edit."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.core.collection_keys import schedule_key
from app.core.enums import Coalesce, Overlap
from app.orgs import collection
from app.store.orgs import org_listing
from app.store.orgs.collection import CollectionSchedule, read_schedule
from app.web.api.problems import Problem
from app.web.dashboard import actions
from app.web.dashboard.editing import api_calls
from app.web.dashboard.rendering import page
from app.web.dashboard.session_auth import NO_STORE, Form, SessionUser

SCHEDULE = "/collections/{collection}/schedule"
EDITS = 25
_NAME = re.compile(collection.NAME_PATTERN)
# The policies of the form, and the type of each in the API.
WHOLE, SECONDS, TEXT, LINES = int, float, str, list
POLICIES: Mapping[str, type] = {
    "overlap": TEXT,
    "coalesce": TEXT,
    "catch_up": WHOLE,
    "misfire_grace_seconds": SECONDS,
    "jitter_seconds": SECONDS,
    "timeout_seconds": SECONDS,
    "max_attempts": WHOLE,
    "exclude": LINES,
    "start": TEXT,
    "end": TEXT,
}
SETTINGS = ("preset_id", "cron_expression", "timezone", "enabled", "notify", *POLICIES)


async def choose(request: Request, _: SessionUser) -> Response:
    """A redirect to the form of the collection that the query names. Raises HTTPException 404."""
    name = request.query_params.get("collection", "").strip()
    if not _NAME.fullmatch(name):
        raise HTTPException(404, "A name has small letters, digits, - and _ only.")
    return actions.redirect(f"/edit/schedules/{name}")


async def edit(request: Request, user: SessionUser) -> Response:
    """The form with the settings as stored, or as they were before or after an edit.

    Raises HTTPException 404.
    """
    edits, stored = await _edits(request, user)
    # Of one row with the values: a later revision would let a save undo what changed in between.
    revision = 0 if stored is None else stored.revision
    values = _shown(collection.settings_of(stored).as_json())
    restored = request.query_params.get("edit", "")
    if restored:
        values = _restored(edits, restored, request.query_params.get("side", ""))
    return await _form(request, user, values, revision, edits, restored=bool(restored))


async def save(request: Request, user: SessionUser, form: Form) -> Response:
    """Store the settings, or only preview them. Raises HTTPException 403, 404, 503."""
    values, revision = _values(form), api_calls.revision_of(form.get("revision", ""))
    if form.get("do") == "preview":
        edits, _ = await _edits(request, user)
        return await _form(request, user, values, revision or 0, edits)
    try:
        await api_calls.call(
            request,
            user,
            ("PATCH", SCHEDULE),
            {"collection": _name(request)},
            values=values,
            revision=revision,
        )
    except Problem as problem:
        edits, _ = await _edits(request, user)
        return await _form(request, user, values, revision or 0, edits, problem=problem)
    return actions.redirect(f"/edit/schedules/{quote(_name(request))}?done=saved")


async def preview(request: Request, user: SessionUser) -> Response:
    """The part of the form that says when a cron expression is due, as HTML."""
    params = request.query_params
    cron, zone = params.get("cron", ""), params.get("timezone", "")
    html = page("editing/preview.html", user=user, **await _previewed(request, user, cron, zone))
    return HTMLResponse(html, headers=NO_STORE)


async def _previewed(request: Request, user: SessionUser, cron: str, zone: str) -> dict[str, Any]:
    try:
        shown = await api_calls.call(
            request,
            user,
            ("GET", "/collection/schedule/preview"),
            values={"cron": cron, "timezone": zone},
        )
    except Problem as problem:
        return {"preview": None, "fault": problem.detail}
    return {"preview": shown, "fault": ""}


async def _form(  # noqa: PLR0913 - what a form is made of
    request: Request,
    user: SessionUser,
    values: Mapping[str, Any],
    revision: int,
    edits: list[dict[str, Any]],
    *,
    problem: Problem | None = None,
    restored: bool = False,
) -> Response:
    presets = (await api_calls.read(request, user, "/collection/presets")).presets
    return api_calls.form_page(
        request,
        user,
        "schedule",
        problem,
        collection=_name(request),
        values=values,
        chosen=any(values[name] is not None for name in POLICIES),
        revision=revision,
        edits=edits,
        presets=presets,
        overlaps=list(Overlap),
        coalesces=list(Coalesce),
        restored=restored,
        **await _previewed(request, user, values["cron_expression"], values["timezone"]),
    )


def _name(request: Request) -> str:
    name: str = request.path_params["collection"]
    if not _NAME.fullmatch(name):
        raise HTTPException(404, "There is no collection of that name.")
    return name


async def _edits(
    request: Request, user: SessionUser
) -> tuple[list[dict[str, Any]], CollectionSchedule | None]:
    """The last edits of the settings, and the schedule; None if it never had one."""
    name = _name(request)
    async with api_calls.own_rows(request, user) as (connection, org_id):
        key = schedule_key(org_id, name)
        rows = await org_listing.edits(connection, (org_id, key), EDITS, None)
        return rows, await read_schedule(connection, org_id, key)


def _restored(edits: list[dict[str, Any]], edit_id: str, side: str) -> dict[str, Any]:
    """The settings before or after (`side`) an edit."""
    found = next((row for row in edits if str(row["id"]) == edit_id), None)
    settings = found and found["before" if side == "before" else "after"]
    if not settings or "cron_expression" not in settings:
        raise HTTPException(404, "There is no such edit, or it has no settings.")
    return _shown(settings)


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings.get(name) for name in SETTINGS}


def _values(form: Form) -> dict[str, Any]:
    """The settings in the form, as the API takes them; an empty policy is the default one."""
    policies = {name: _value(form.get(name, ""), kind) for name, kind in POLICIES.items()}
    return {
        "preset_id": form.get("preset_id") or None,
        "cron_expression": form.get("cron_expression", "").strip(),
        "timezone": form.get("timezone", "").strip(),
        "enabled": form.get("enabled") == "on",
        "notify": form.get("notify") == "on",
        **policies,
    }


def _value(text: str, kind: type) -> Any:
    text = text.strip()
    if not text:
        return None
    if kind is LINES:
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return text if kind is TEXT else kind(text)
    except ValueError:
        return text  # refused by the API, with the name of the field
