"""Limits on dry runs, and the process that makes them, as the web sees it.

What a site sends and a page holds costs time of that process, not of the web's event loop.
"""

import asyncio
import pickle
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from app.authoring.dry_run_order import DryRunOrder, DryRunSettings
from app.core import frames
from app.core.config import Config
from app.core.errors import Timeout
from app.sources.recipes.sandbox import Sandbox
from app.web import fixed_window
from app.web.api.problems import Problem

if TYPE_CHECKING:
    from app.fetch.authenticated import FetcherOptions
    from app.sources.recipes.model import Recipe
    from app.sources.recipes.source import RecipeSource

MAX_CONCURRENT = 16  # concurrent dry runs in this process, one of each organisation
SANDBOX_PROCESSES = 2
MAX_LOADS_PER_MINUTE = 30  # recipes checked per organisation, over all processes
TIME_LIMIT_SECONDS = 20.0  # total time of one dry run
REQUEST_SECONDS = TIME_LIMIT_SECONDS + 8  # seconds; with the queries before and after the dry run
MAX_PER_MINUTE = 10  # dry runs per organisation, over all processes
WINDOW_SECONDS = 60
START_SECONDS = 30.0  # for the process to start on a busy machine


def _unanswered(order: DryRunOrder) -> dict[str, Any]:
    """The result of a dry run that the process did not answer. Call it in a thread."""
    # What makes dry runs needs 13 MB, of the other process only as long as it answers.
    from app.authoring.dry_run import failed  # noqa: PLC0415 - as above

    return failed(order, Timeout("the process that makes dry runs did not answer"))


class DryRunProcess:
    """The process, started with the first dry run, and again after it has ended."""

    def __init__(self, settings: DryRunSettings) -> None:
        self._settings = settings
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = count()

    async def run(self, order: DryRunOrder) -> dict[str, Any]:
        """Make the dry run; return what it brought. A process that hangs is ended.

        Raises Problem (503) if the process ends before.
        """
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(order.seconds + START_SECONDS):
                stdin = await self._running()
                self._waiting[number] = answer
                frames.write(stdin, pickle.dumps((number, order)))
                await stdin.drain()
                return await answer
        except TimeoutError:
            await self.close()
            return await asyncio.to_thread(_unanswered, order)
        except ConnectionError:
            reason = "the process that makes dry runs has ended: try again"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, reason) from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the process; dry runs that wait for it fail."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reading is not None:
            await self._reading

    async def _running(self) -> asyncio.StreamWriter:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "app.authoring.dry_run_process"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C must reach only the web process
                )
                stdin, stdout = self._process.stdin, self._process.stdout
                if stdin is None or stdout is None:
                    raise BrokenPipeError
                frames.write(stdin, pickle.dumps(self._settings))
                self._reading = asyncio.create_task(self._read(stdout))
            if self._process.stdin is None:
                raise BrokenPipeError
            return self._process.stdin

    async def _read(self, results: asyncio.StreamReader) -> None:
        waiting = self._waiting
        with suppress(EOFError):
            while True:
                number, brought = msgspec.json.decode(await frames.read_async(results))
                answer = waiting.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(brought)
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(BrokenPipeError())


@dataclass(slots=True)
class DryRunner:
    """Runs dry runs and limits how many there are.

    `sandbox`: checks recipes. `seconds`: the time limit of one dry run.
    """

    process: DryRunProcess
    sandbox: Sandbox
    redis: Redis
    seconds: float = TIME_LIMIT_SECONDS
    _busy: set[UUID] = field(default_factory=set[UUID])

    @asynccontextmanager
    async def slot(self, org_id: UUID) -> AsyncGenerator[None]:
        """Hold the organisation's slot for a dry run.

        Raises Problem (429) if the organisation already has a dry run in progress, if this process
        has MAX_CONCURRENT of them, or if the organisation has used up those of this minute.
        """
        # Reserve the slot before the counter is awaited, so that two requests cannot both pass.
        self._reserve(org_id)
        try:
            await self._check_rate(f"tried:{org_id}", MAX_PER_MINUTE, "dry runs")
            yield
        finally:
            self._busy.discard(org_id)

    async def load(self, org_id: UUID, text: str) -> "Recipe":
        """Return the recipe, checked in a sandbox process, one of each organisation at a time.

        Raises BadRecipe, or Problem (429) if the organisation has had too many checked.
        """
        from app.sources.recipes.checking import load_in_sandbox  # noqa: PLC0415 - only here

        await self._check_rate(f"loaded:{org_id}", MAX_LOADS_PER_MINUTE, "recipes")
        return await load_in_sandbox(self.sandbox, org_id.hex, text)

    async def run(self, source: "RecipeSource", options: "FetcherOptions") -> dict[str, Any]:
        """Fetch and parse the first page of the recipe's first partition, in the process.

        A Failure, a timeout included, is in `failure`.
        """
        return await self.process.run(DryRunOrder(source, options, self.seconds))

    def _reserve(self, org_id: UUID) -> None:
        if org_id in self._busy:
            raise _too_many("your organisation already has a dry run in progress", 1)
        if len(self._busy) >= MAX_CONCURRENT:
            raise _too_many("too many dry runs are in progress", 2)
        self._busy.add(org_id)

    async def _check_rate(self, name: str, limit: int, what: str) -> None:
        key = f"rollcall:api:{name}"
        wait = await fixed_window.seconds_over(self.redis, "dry_runs", key, limit, WINDOW_SECONDS)
        if wait:
            raise _too_many(f"more than {limit} {what} in a minute", wait)


@asynccontextmanager
async def open_dry_runner(
    config: Config, redis: Redis, redis_url: str
) -> AsyncGenerator[DryRunner]:
    """Yield what dry runs need, and close it afterwards. Processes are started on first use."""
    settings = DryRunSettings(
        redis_url,
        config.redis_ssl_cert_reqs,
        config.contact,
        tuple(config.guard_allow),
        config.log_format,
        config.log_level,
    )
    sandbox = Sandbox(SANDBOX_PROCESSES)
    process = DryRunProcess(settings)
    try:
        yield DryRunner(process, sandbox, redis)
    finally:
        await process.close()
        await sandbox.close()


def _too_many(reason: str, seconds: int) -> Problem:
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"{reason}: try again later",
        headers={"retry-after": str(seconds)},
    )
