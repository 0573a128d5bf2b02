"""The worker of the dispatch benchmark: the production one, without runs of organisations.

`arq scripts.bench.dispatch_worker.Settings`. It scrapes the stand-in without rate limits.
"""

from dataclasses import replace
from typing import Any

from app.core.messages import HostLimits
from app.workers import settings as front_door
from workers import lifecycle

opened = lifecycle.open_context


def open_unlimited(
    config: Any, where: Any, redis: Any, sources: dict[str, HostLimits], *others: Any
) -> Any:
    """Open the worker context without the sites' rate limits."""
    unlimited = {name: replace(limits, rate=5_000, burst=500) for name, limits in sources.items()}
    return opened(config, where, redis, unlimited, *others)


async def startup(ctx: dict[str, Any]) -> None:
    """Start with no slot for runs of organisations: they stay in the Redis queue."""
    ctx["slots"] = 0
    await front_door.Settings.on_startup(ctx)


lifecycle.open_context = open_unlimited
Settings = type("Settings", (), {**vars(front_door.Settings), "on_startup": staticmethod(startup)})
