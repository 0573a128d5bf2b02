"""Routes of the dashboard pages and actions."""

from starlette.routing import BaseRoute, Route

from app.web.dashboard import (
    actions,
    alerts_page,
    audit_page,
    backfills_page,
    collection_page,
    events,
    jobs_page,
    run_actions,
    runs_page,
    sign_in,
    ticks_page,
    trends_page,
    views,
    workers_page,
)
from app.web.dashboard.data.reading import data_page
from app.web.dashboard.data.routes import data_routes
from app.web.dashboard.editing.routes import editing_routes
from app.web.dashboard.session_auth import (
    RouteHandler,
    choose_zone,
    require_operate,
    require_operator,
    require_operator_to_act,
    require_session,
)


def _post(path: str, action: RouteHandler) -> Route:
    return Route(path, action, methods=["POST"])


def page_routes() -> list[BaseRoute]:
    """The routes of every page and action; all but sign-in and sign-out require a session."""
    return [
        Route("/", require_session(views.home)),
        Route("/jobs", require_operator(data_page(jobs_page.jobs))),
        _post("/jobs/several", require_operator_to_act(jobs_page.several)),
        Route("/jobs/{key}", require_session(views.job)),
        Route("/jobs/{key}/ticks/{at}", require_session(data_page(views.tick))),
        Route("/runs", require_session(data_page(runs_page.runs))),
        Route("/ticks", require_session(data_page(ticks_page.ticks))),
        Route("/runs/{run_id:uuid}", require_session(views.run)),
        *data_routes(),
        *editing_routes(),
        Route("/collections", require_session(data_page(collection_page.collection))),
        Route("/live", require_session(events.stream)),
        Route("/alerts", require_operator(data_page(alerts_page.alerts))),
        _post("/alerts/{key}/acknowledge", require_operator_to_act(alerts_page.acknowledge)),
        _post("/alerts/{key}/release", require_operator_to_act(alerts_page.release)),
        Route("/trends", require_session(data_page(trends_page.trends))),
        Route("/workers", require_operator(workers_page.workers)),
        Route("/audit", require_session(data_page(audit_page.entries))),
        _post("/runs/several", require_operate(run_actions.several, run_actions.MAX_FORM_BYTES)),
        _post("/runs/{run_id:uuid}/cancel", require_operate(run_actions.cancel)),
        _post("/runs/{run_id:uuid}/retry", require_operate(run_actions.retry)),
        Route("/backfills", require_operator(data_page(backfills_page.backfills))),
        _post("/backfills/{id:uuid}/stop", require_operator_to_act(backfills_page.stop)),
        Route("/jobs/{key}/backfill", require_operator(backfills_page.plan), methods=["GET"]),
        _post("/jobs/{key}/backfill", require_operator_to_act(backfills_page.start)),
        _post("/jobs/{key}/run", require_operate(actions.run_now)),
        _post("/jobs/{key}/pause", require_operate(actions.pause)),
        _post("/jobs/{key}/resume", require_operate(actions.resume)),
        _post("/zone", choose_zone),
        Route("/login", sign_in.login_page, methods=["GET"]),
        _post("/login", sign_in.login),
        _post("/logout", sign_in.logout),
    ]
