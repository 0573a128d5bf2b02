"""Routes of the forms in which an organisation changes its settings."""

from starlette.routing import BaseRoute, Route

from app.web.dashboard.editing import schedules
from app.web.dashboard.session_auth import require_org, require_org_to_act


def editing_routes() -> list[BaseRoute]:
    """The routes of all forms. The operator has no collection."""
    return [
        Route("/edit/preview", require_org(schedules.preview)),
        Route("/edit/schedules", require_org(schedules.choose)),
        Route("/edit/schedules/{collection}", require_org(schedules.edit), methods=["GET"]),
        Route("/edit/schedules/{collection}", require_org_to_act(schedules.save), methods=["POST"]),
    ]
