"""The page of alerts: what is unhealthy, who has acknowledged it, and the last changes."""

from starlette.requests import Request
from starlette.responses import Response

from app.health.alerts import acknowledge as rules
from app.store.db import Connection
from app.store.reports import acknowledgements
from app.store.reports.acknowledgements import Acknowledged
from app.store.schedules import heartbeats
from app.web.context import web_context
from app.web.dashboard import actions, notices
from app.web.dashboard.session_auth import Form, SessionUser
from app.web.dashboard.views import respond

SHOWN = 500
FLIPS = 50


async def alerts(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The alerts that have not recovered, and the last changes of health."""
    return respond(
        "alerts.html",
        user,
        "alerts",
        now=await heartbeats.database_now(connection),
        alerts=await acknowledgements.open_alerts(connection, SHOWN),
        flips=await acknowledgements.flips(connection, FLIPS),
        remind_hours=web_context(request).config.alert_remind_hours,
        notice=notices.notice(request.query_params),
    )


async def acknowledge(request: Request, user: SessionUser, form: Form) -> Response:
    """Acknowledge an alert, or snooze it until the instant of the form.

    Raises HTTPException 409 if there is none, 422 for an invalid reason or end, 503.
    """
    note, pool = actions.reason_of(form, required=True), web_context(request).pool
    with actions.http_errors():
        now = await heartbeats.database_now(pool)
        wanted = Acknowledged(now, user.principal.name, note, actions.until_of(form, now))
        await rules.acknowledge(pool, request.path_params["key"], wanted)
    return actions.redirect(f"/alerts?done={'snooze' if wanted.until else 'acknowledge'}")


async def release(request: Request, user: SessionUser, _: Form) -> Response:
    """Send reminders of an alert again. Raises HTTPException 409 if it is not acknowledged, 503."""
    pool = web_context(request).pool
    with actions.http_errors():
        now = await heartbeats.database_now(pool)
        await rules.release(pool, request.path_params["key"], now, user.principal.name)
    return actions.redirect("/alerts?done=release")
