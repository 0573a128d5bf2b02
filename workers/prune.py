"""Hourly pruning of raw pages."""

from typing import Any

from app.context import worker_context
from app.core import log
from app.store.content import pages

PRUNE_TIMEOUT = 300.0  # seconds; the next pruning continues one that was cut off

_log = log.logger(__name__)


async def prune_raw_pages(ctx: dict[str, Any]) -> None:
    """Delete raw pages older than RAW_DAYS. Safe to run concurrently and repeatedly."""
    context = worker_context(ctx)
    deleted = await pages.prune(context.pool, context.clock(), context.config.raw_days)
    if deleted:
        _log.info("pages.pruned", rows=deleted)
