"""Routes of the pages and the API. Imported with SQLAlchemy, which they read with: 40 MB in all."""

from starlette.routing import BaseRoute, Route

from app.web.api.routes import routes as api_routes
from app.web.client_source import client_module
from app.web.dashboard.routes import page_routes
from app.web.docs_page import docs


def page_and_api_routes() -> list[BaseRoute]:
    return [
        Route("/docs", docs),
        Route("/docs/rollcall_client.py", client_module),
        *api_routes(),
        *page_routes(),
    ]
