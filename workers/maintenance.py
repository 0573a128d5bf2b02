"""Nightly retention: deletes rows older than the settings allow."""

from typing import Any

from app.context import worker_context
from app.core import log
from app.maintenance import retention
from app.scheduling.schedule import Schedule

RETENTION_SCHEDULE = Schedule.cron("17 3 * * *")  # UTC
RETENTION_TIMEOUT = 3600.0  # seconds; the next night continues a run that was cut off

_log = log.logger(__name__)


async def apply_retention(ctx: dict[str, Any]) -> None:
    """Delete expired rows of each kind. Safe to run concurrently and repeatedly."""
    context = worker_context(ctx)
    async for deleted in retention.delete_expired(context.pool, context.config, context.clock()):
        if deleted.rows:
            _log.info("kind.pruned", kind=deleted.kind, rows=deleted.rows)
