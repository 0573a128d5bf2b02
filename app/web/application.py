"""The Starlette application of the web process."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from importlib import import_module
from typing import Any
from uuid import UUID

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from app.core import log
from app.core.config import Config, chosen_format, load
from app.core.errors import RollcallError
from app.store.db import Connection
from app.store.schedules.heartbeats import database_now
from app.web import boundary, garbage
from app.web.boundary import RequestBounds
from app.web.context import DeclaredJobs, Now, Sources, open_web_context
from app.web.dashboard import rendering
from app.web.dashboard.events import stop_on_signal
from app.web.health.readiness import check_servers
from app.web.http_error import http_error
from app.web.on_demand import Importing, OnDemand
from app.web.routes import SecurityHeaders, internal_error, routes
from workers.schedule_settings import default_policies, odds_max_age


async def check_sources(
    connection: Connection, org_id: UUID, wanted: Sources
) -> Sequence[tuple[str, str]]:
    """As `workers.registry.check_sources` says, which is imported in a thread: it takes a while."""
    registry = await asyncio.to_thread(import_module, "workers.registry")
    return await registry.check_sources(connection, org_id, wanted)


def create_app(
    config: Config,
    *,
    now: Now = database_now,
    importing: Importing = nullcontext,
) -> Starlette:
    """The application for `config`; `now` is the clock of the API.

    `importing`: the context in which the pages and the API are imported.
    """

    def json_params(task: str, given: dict[str, Any]) -> dict[str, Any]:
        from workers.registry import find_job  # noqa: PLC0415 - only here, and called in a thread

        return find_job(config, task).json_params(given)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, Any]]:
        declared = DeclaredJobs(
            check_sources, partial(odds_max_age, config), json_params, default_policies(config)
        )
        async with open_web_context(config, declared, now) as context:
            with stop_on_signal(context.stopping):
                compiling = asyncio.create_task(asyncio.to_thread(rendering.compile_templates))
                yield {"web": context}
                await compiling

    app = Starlette(
        routes=routes(),
        lifespan=lifespan,
        middleware=[Middleware(SecurityHeaders), Middleware(RequestBounds)],
        exception_handlers={HTTPException: http_error, 500: internal_error},
    )
    app.router.default = OnDemand(importing)
    app.router.redirect_slashes = False  # it would redirect to whatever host the client names
    boundary.install()
    return app


def application_from_environment() -> Starlette:
    """The application for the settings. Exits with code 2 if they are wrong."""
    try:
        config = load()
        log.configure(config.log_format, config.log_level, config.secrets())
        check_servers(config)
    except RollcallError as error:
        log.report_fatal(str(error), chosen_format())
        sys.exit(2)
    return create_app(config, importing=garbage.importing)
