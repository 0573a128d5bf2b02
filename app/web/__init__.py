"""The Starlette application of the web process: `uvicorn app.web:app`."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from app.core import log
from app.core.config import Config, chosen_format, load
from app.core.errors import RollcallError
from app.store.schedules.heartbeats import database_now
from app.web import boundary, garbage
from app.web.boundary import RequestBounds
from app.web.context import DeclaredJobs, Now, SourceCheck, open_web_context
from app.web.dashboard.events import stop_on_signal
from app.web.dashboard.routes import http_error
from app.web.health.readiness import check_servers
from app.web.routes import SecurityHeaders, routes
from workers.registry import check_sources, find_job
from workers.schedule_settings import default_policies, odds_max_age


def create_app(
    config: Config, *, check: SourceCheck = check_sources, now: Now = database_now
) -> Starlette:
    """The application for `config`; `now` is the clock of the API.

    `check` validates the sources that an organisation wants in a preset.
    """

    def json_params(task: str, given: dict[str, Any]) -> dict[str, Any]:
        return find_job(config, task).json_params(given)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, Any]]:
        declared = DeclaredJobs(
            check, partial(odds_max_age, config), json_params, default_policies(config)
        )
        async with open_web_context(config, declared, now) as context:
            with stop_on_signal(context.stopping):
                yield {"web": context}

    app = Starlette(
        routes=routes(),
        lifespan=lifespan,
        middleware=[Middleware(RequestBounds), Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: http_error, 500: http_error},
    )
    app.router.redirect_slashes = False  # it would redirect to whatever host the client names
    boundary.install()
    return app


def __getattr__(name: str) -> Starlette:
    # `app` is created when uvicorn asks for it, so that this package can be imported without an
    # environment.
    if name != "app":
        raise AttributeError(name)
    try:
        config = load()
        log.configure(config.log_format, config.log_level, config.secrets())
        check_servers(config)
    except RollcallError as error:
        log.report_fatal(str(error), chosen_format())
        sys.exit(2)
    created = create_app(config)
    garbage.spare_imports()
    return created
