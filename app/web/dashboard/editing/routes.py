"""Routes of the forms in which an organisation changes its settings."""

from starlette.routing import BaseRoute, Route

from app.web.dashboard.editing import notifications, presets, recipes, schedules
from app.web.dashboard.session_auth import require_org, require_org_to_act

_WEBHOOK = "/edit/notifications/webhooks/{webhook_id:uuid}"
_add_channel = require_org_to_act(notifications.add_channel)
_change_channel = require_org_to_act(notifications.change_channel)
_add_webhook = require_org_to_act(notifications.add_webhook)
_recipe_action = require_org_to_act(recipes.save, recipes.MAX_BYTES)


def editing_routes() -> list[BaseRoute]:
    """The routes of all forms. The operator has no collection."""
    return [
        Route("/edit/preview", require_org(schedules.preview)),
        Route("/edit/schedules", require_org(schedules.choose)),
        Route("/edit/schedules/{collection}", require_org(schedules.edit), methods=["GET"]),
        Route("/edit/schedules/{collection}", require_org_to_act(schedules.save), methods=["POST"]),
        Route("/edit/presets", require_org(presets.presets), methods=["GET"]),
        Route("/edit/presets", require_org_to_act(presets.save), methods=["POST"]),
        Route("/edit/presets/{preset_id:uuid}", require_org(presets.edit), methods=["GET"]),
        Route("/edit/presets/{preset_id:uuid}", require_org_to_act(presets.save), methods=["POST"]),
        Route("/edit/recipes", require_org(recipes.recipes), methods=["GET"]),
        Route("/edit/recipes", _recipe_action, methods=["POST"]),
        Route("/edit/recipes/{name}", require_org(recipes.edit), methods=["GET"]),
        Route("/edit/recipes/{name}", _recipe_action, methods=["POST"]),
        Route("/edit/notifications", require_org(notifications.notifications), methods=["GET"]),
        Route("/edit/notifications/channels", _add_channel, methods=["POST"]),
        Route("/edit/notifications/channels/{channel_id:uuid}", _change_channel, methods=["POST"]),
        Route("/edit/notifications/webhooks", _add_webhook, methods=["POST"]),
        Route(_WEBHOOK, require_org(notifications.webhook), methods=["GET"]),
        Route(_WEBHOOK, require_org_to_act(notifications.change_webhook), methods=["POST"]),
    ]
