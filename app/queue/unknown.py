"""Jobs in arq's queue whose function this worker does not have: left to a worker that has it.

During a deployment workers know different jobs, and any of them may claim one.
"""

from datetime import UTC, datetime
from typing import Any, cast

from arq import Retry
from arq.connections import ArqRedis
from arq.constants import retry_key_prefix
from arq.cron import CronJob
from arq.worker import Function, func

from app.core import log

# A job that has waited for long is left for longer, so that many of them cost little.
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 15.0
WAITED_SHARE = 10

_log = log.logger(__name__)


class KnownFunctions(dict[str, Function | CronJob]):
    """arq's functions by name. Any other name is a function that leaves its job in the queue."""

    def __missing__(self, name: str) -> Function:
        _log.warning(
            "job.unknown",
            task=name,
            why="this worker does not have it, and leaves its runs to one that does",
            fix="update this worker; if no worker has it, see `doctor`",
        )
        function = self[name] = func(leave, name=name)
        return function


async def leave(ctx: dict[str, Any], *_: object, **__: object) -> None:
    """Put the job off; this try does not count. Raises arq's Retry."""
    redis, enqueued_at = cast("ArqRedis", ctx["redis"]), cast("datetime", ctx["enqueue_time"])
    waited = (datetime.now(UTC) - enqueued_at).total_seconds()
    await redis.delete(retry_key_prefix + ctx["job_id"])
    raise Retry(defer=min(max(waited / WAITED_SHARE, SHORTEST_SECONDS), LONGEST_SECONDS))
