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
    choose_zone,
    require_operate,
    require_operator,
    require_operator_to_act,
    require_session,
)


def page_routes() -> list[BaseRoute]:
    """The routes of every page and action; all but sign-in and sign-out require a session."""
    return [
        Route("/", require_session(views.home)),
        Route("/jobs", require_operator(data_page(jobs_page.jobs))),
        Route("/jobs/several", require_operator_to_act(jobs_page.several), methods=["POST"]),
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
        Route(
            "/alerts/{key}/acknowledge",
            require_operator_to_act(alerts_page.acknowledge),
            methods=["POST"],
        ),
        Route(
            "/alerts/{key}/release", require_operator_to_act(alerts_page.release), methods=["POST"]
        ),
        Route("/trends", require_session(data_page(trends_page.trends))),
        Route("/workers", require_operator(workers_page.workers)),
        Route("/audit", require_session(data_page(audit_page.entries))),
        Route(
            "/runs/several",
            require_operate(run_actions.several, run_actions.MAX_FORM_BYTES),
            methods=["POST"],
        ),
        Route("/runs/{run_id:uuid}/cancel", require_operate(run_actions.cancel), methods=["POST"]),
        Route("/runs/{run_id:uuid}/retry", require_operate(run_actions.retry), methods=["POST"]),
        Route("/backfills", require_operator(data_page(backfills_page.backfills))),
        Route(
            "/backfills/{id:uuid}/stop",
            require_operator_to_act(backfills_page.stop),
            methods=["POST"],
        ),
        Route("/jobs/{key}/backfill", require_operator(backfills_page.plan), methods=["GET"]),
        Route(
            "/jobs/{key}/backfill",
            require_operator_to_act(backfills_page.start),
            methods=["POST"],
        ),
        Route("/jobs/{key}/run", require_operate(actions.run_now), methods=["POST"]),
        Route("/jobs/{key}/pause", require_operate(actions.pause), methods=["POST"]),
        Route("/jobs/{key}/resume", require_operate(actions.resume), methods=["POST"]),
        Route("/zone", choose_zone, methods=["POST"]),
        Route("/login", sign_in.login_page, methods=["GET"]),
        Route("/login", sign_in.login, methods=["POST"]),
        Route("/logout", sign_in.logout, methods=["POST"]),
    ]
