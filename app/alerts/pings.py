"""Pings to a dead man's switch outside: it notices when they stay away. Never waited for."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from app import log
from app.config import Config, pings
from app.fetch import ping
from app.health.judge import BAD
from app.words import RunStatus

TRIES = (0.0, 2.0, 10.0)  # seconds to wait before each

_log = log.logger(__name__)


class Pings:
    """The addresses of the settings, and the pings that are under way."""

    def __init__(self, jobs: Mapping[str, str], scheduler: str | None) -> None:
        self._jobs = jobs
        self._scheduler = scheduler
        self._errands: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, config: Config) -> "Pings":
        """Those of the settings."""
        scheduler = config.ping_scheduler_url
        return cls(
            pings(config.ping_urls), None if scheduler is None else scheduler.get_secret_value()
        )

    def run_ended(self, job: str, status: RunStatus) -> None:
        """Say that a run of the job ended: to its address, or to `/fail` behind it."""
        url = self._jobs.get(job)
        if url is not None:
            self._start(job, _fail(url) if status in BAD else url)

    def scheduler(self) -> None:
        """Say that a worker beats."""
        if self._scheduler is not None:
            self._start("scheduler", self._scheduler)

    async def close(self) -> None:
        """Give the pings under way two seconds, then leave them."""
        if self._errands:
            _, late = await asyncio.wait(self._errands, timeout=2)
            for errand in late:
                errand.cancel()

    def _start(self, what: str, url: str) -> None:
        errand = asyncio.create_task(_ping(what, url))
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)


def _fail(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()


async def _ping(what: str, url: str) -> None:
    error: str | None = None
    for wait in TRIES:
        await asyncio.sleep(wait)
        error = await ping.ask(url)
        if error is None:
            return
    _log.warning("ping.not_sent", job=what, error=error)
