"""The table of API endpoints, from which the routes and the OpenAPI document are built."""

from app.web.api import (
    all_runs,
    backfills,
    changes,
    channels,
    dry_runs,
    exports,
    items,
    jobs,
    news,
    odds,
    operator,
    presets,
    preview,
    runs,
    schedule,
    secrets,
    sources,
    ticks,
    usage,
    webhooks,
)
from app.web.api.endpoint import Endpoint

MODULES = (
    schedule,
    preview,
    runs,
    ticks,
    items,
    changes,
    exports,
    usage,
    operator,
    webhooks,
    channels,
    presets,
    sources,
    dry_runs,
    secrets,
    jobs,
    all_runs,
    backfills,
    odds,
    news,
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(one for module in MODULES for one in module.ENDPOINTS)
