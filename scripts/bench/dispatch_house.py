"""The worker of the benchmark: the front door's, which does no organisation's run, only queues it.

`arq scripts.bench.dispatch_house.Settings`. It asks the stand-in as fast as it can.
"""

from dataclasses import replace
from typing import Any

from app import workers as front_door
from app.messages import Limits
from workers import house

opened = house.opened


def hurried(config: Any, where: Any, redis: Any, sources: dict[str, Limits], *others: Any) -> Any:
    """The house, without its politeness."""
    fast = {name: replace(limits, rate=5_000, burst=500) for name, limits in sources.items()}
    return opened(config, where, redis, fast, *others)


async def startup(ctx: dict[str, Any]) -> None:
    """Start as always, but let nobody of the line in: to be dispatched is to be in Redis."""
    ctx["slots"] = 0
    await front_door.Settings.on_startup(ctx)


house.opened = hurried
Settings = type("Settings", (), {**vars(front_door.Settings), "on_startup": staticmethod(startup)})
