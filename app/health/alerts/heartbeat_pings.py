"""Dead-man pings: requests to an external monitor, which alerts when they stop."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from app.core import log
from app.core.config import Config
from app.core.enums import RunStatus
from app.core.setting_types import pings
from app.fetch import ping
from app.health.judge import GOOD

RETRY_DELAYS = (0.0, 2.0, 10.0)  # seconds to wait before each

_log = log.logger(__name__)


class HeartbeatPings:
    """Sends pings in background tasks, so that nothing waits for them. `close` it at the end."""

    def __init__(self, jobs: Mapping[str, str], scheduler: str | None) -> None:
        self._jobs = jobs
        self._scheduler = scheduler
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def from_config(cls, config: Config) -> "HeartbeatPings":
        """The pings that the settings configure."""
        scheduler = config.ping_scheduler_url
        return cls(
            pings(config.ping_urls), None if scheduler is None else scheduler.get_secret_value()
        )

    def run_ended(self, job: str, status: RunStatus) -> None:
        """Ping the URL of the job after a run, with `/fail` appended if the run was not good.

        A cancelled run sends none.
        """
        url = self._jobs.get(job)
        if url is not None and status is not RunStatus.CANCELLED:
            self._start(job, url if status in GOOD else _fail(url))

    def scheduler(self) -> None:
        """Ping the URL of the scheduler: a worker is live."""
        if self._scheduler is not None:
            self._start("scheduler", self._scheduler)

    async def close(self) -> None:
        """Wait two seconds for the pings under way, then cancel them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=2)
            for task in late:
                task.cancel()

    def _start(self, job: str, url: str) -> None:
        task = asyncio.create_task(_ping(job, url))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fail(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()


async def _ping(job: str, url: str) -> None:
    error: str | None = None
    for wait in RETRY_DELAYS:
        await asyncio.sleep(wait)
        error = await ping.send_ping(url)
        if error is None:
            return
    _log.warning("ping.not_sent", job=job, error=error)
