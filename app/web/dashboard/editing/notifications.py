"""The page of where an organisation is notified: its alert channels and its webhooks."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.enums import AlertSeverity
from app.orgs.alert_channels import SERVICES
from app.web.api.problems import Problem
from app.web.dashboard import actions
from app.web.dashboard.editing import api_calls
from app.web.dashboard.session_auth import Form, SessionUser

PAGE = "/edit/notifications"
CHANNELS, CHANNEL = "/collection/channels", "/collection/channels/{channel_id}"
WEBHOOKS, WEBHOOK = "/collection/webhooks", "/collection/webhooks/{webhook_id}"
# What each severity is sent for.
SEVERITIES = {
    AlertSeverity.FAILURE: "it became unhealthy",
    AlertSeverity.WARNING: "reminders while it is",
    AlertSeverity.SUCCESS: "it is healthy again",
}
NO_CHANNEL: dict[str, Any] = {"label": "", "collections": [], "severities": []}
# What the form of an existing one may do: the method, and the end of the operation's path.
CHANNEL_DEEDS = {"test": ("POST", "/test"), "delete": ("DELETE", "")}
WEBHOOK_DEEDS = {**CHANNEL_DEEDS, "pause": ("POST", "/pause"), "resume": ("POST", "/resume")}


async def add_channel(request: Request, user: SessionUser, form: Form) -> Response:
    """Create the channel of the form. Its URL is never shown again. Raises HTTPException 403."""
    values = {
        "label": form.get("label", "").strip(),
        "collections": form.getlist("collections"),
        "severities": form.getlist("severities"),
    }
    try:
        body = values | {"url": form.get("url", "").strip()}
        await api_calls.call(request, user, ("POST", CHANNELS), values=body)
    except Problem as problem:
        return await notifications(request, user, problem=problem, channel=values)
    return actions.redirect(f"{PAGE}?done=created")


async def add_webhook(request: Request, user: SessionUser, form: Form) -> Response:
    """Create the webhook of the form, and show its secret this once. Raises HTTPException 403."""
    url = form.get("url", "").strip()
    try:
        created = await api_calls.call(request, user, ("POST", WEBHOOKS), values={"url": url})
    except Problem as problem:
        return await notifications(request, user, problem=problem, webhook_url=url)
    return await notifications(request, user, created=created)


async def change_channel(request: Request, user: SessionUser, form: Form) -> Response:
    """Test or delete a channel. Raises HTTPException 403, 404, 422."""
    path = request.path_params
    try:
        done = await _perform(request, user, form, CHANNEL, CHANNEL_DEEDS, path)
    except Problem as problem:
        return await notifications(request, user, problem=problem, of=path["channel_id"])
    return actions.redirect(f"{PAGE}?done={done}")


async def change_webhook(request: Request, user: SessionUser, form: Form) -> Response:
    """Test, pause, resume or delete a webhook. Raises HTTPException 403, 404, 422."""
    path = request.path_params
    try:
        done = await _perform(request, user, form, WEBHOOK, WEBHOOK_DEEDS, path)
    except Problem as problem:
        return await webhook(request, user, problem)
    place = PAGE if done == "delete" else f"{PAGE}/webhooks/{path['webhook_id']}"
    return actions.redirect(f"{place}?done={done}")


async def _perform(
    request: Request,
    user: SessionUser,
    form: Form,
    operation: str,
    deeds: dict[str, tuple[str, str]],
    path: Mapping[str, Any],
) -> str:
    """Do what the form asks for; returns its name. Raises HTTPException 422 if there is no such."""
    deed = form.get("do", "")
    if deed not in deeds:
        raise HTTPException(422, "Choose what to do.")
    method, end = deeds[deed]
    values = {"note": form.get("note", "").strip()} if deed == "pause" else {}
    await api_calls.call(request, user, (method, f"{operation}{end}"), path, values=values)
    return deed


async def notifications(  # noqa: PLR0913 - what the page is made of
    request: Request,
    user: SessionUser,
    *,
    problem: Problem | None = None,
    channel: dict[str, Any] | None = None,
    webhook_url: str | None = None,
    created: Any = None,
    of: UUID | None = None,
) -> Response:
    """The channels and webhooks, and the forms of new ones.

    `problem`: of the channel or webhook typed, or of the channel `of`.
    """
    collections = (await api_calls.read(request, user, "/collections")).collections
    return api_calls.form_page(
        request,
        user,
        "notifications",
        problem,
        channels=(await api_calls.read(request, user, CHANNELS)).channels,
        webhooks=(await api_calls.read(request, user, WEBHOOKS)).webhooks,
        collections=[one.name for one in collections],
        silent=[one.name for one in collections if not one.schedule.notify],
        severities=SEVERITIES,
        services=SERVICES,
        channel=channel or NO_CHANNEL,
        webhook_url=webhook_url or "",
        channel_problem=problem if channel is not None else None,
        webhook_problem=problem if webhook_url is not None else None,
        refused=(of, problem),
        created=created,
    )


async def webhook(request: Request, user: SessionUser, problem: Problem | None = None) -> Response:
    """One webhook: its state, and its last deliveries. Raises HTTPException 404."""
    path = request.path_params
    listed = await api_calls.read(request, user, f"{WEBHOOK}/deliveries", path)
    return api_calls.form_page(
        request,
        user,
        "webhook",
        problem,
        hook=await api_calls.read(request, user, WEBHOOK, path),
        deliveries=listed.deliveries,
        more=listed.next_cursor is not None,
    )
