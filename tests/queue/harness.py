"""A small worker for these tests: a real Redis to break, jobs that leave notes, a worker to run."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import Any, cast

from arq.connections import ArqRedis
from arq.cron import CronJob, cron
from arq.worker import func
from redis.exceptions import RedisError

from app.core.job_scope import job_scope
from app.core.log import configure
from app.queue.jobs import dumps, loads, redis_pool
from app.queue.worker import SurvivingWorker, install
from tests.wait import until

ROOT = Path(__file__).parents[2]
Ctx = dict[str, Any]


class Queue:
    """What the tests ask of Redis, with types."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis = redis
        self._any = cast("Any", redis)

    async def notes(self, name: str, least: int = 1) -> list[float]:
        """Unix seconds at which a job wrote the note; nothing while fewer than `least`."""
        texts = await self._any.lrange(f"note:{name}", 0, -1)
        return [float(text) for text in texts] if len(texts) >= least else []

    async def keys(self, pattern: str) -> list[str]:
        return sorted(key.decode() for key in await self._any.keys(pattern))

    async def waiting(self) -> list[str]:
        return [job_id.decode() for job_id in await self._any.zrange("arq:queue", 0, -1)]

    async def answers(self) -> bool:
        with contextlib.suppress(RedisError):
            return bool(await self._any.ping())
        return False

    async def none_waiting(self) -> bool:
        try:
            return await self.waiting() == []
        except RedisError:  # it may be starting
            return False

    async def lives_ms(self, key: str) -> int:
        return int(await self._any.pttl(key))

    async def raw(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._any.get(key))

    async def put(self, key: str, value: str) -> None:
        await self._any.set(key, value)

    async def remove(self, key: str) -> None:
        await self._any.delete(key)

    async def listeners(self, channel: str) -> int:
        with contextlib.suppress(RedisError):  # it may be starting
            [[_, count]] = await self._any.pubsub_numsub(channel)
            return int(count)
        return 0

    async def say(self, channel: str, message: bytes) -> None:
        await self._any.publish(channel, message)

    async def flush(self) -> None:
        await self._any.flushall()


@contextlib.asynccontextmanager
async def queue_of(url: str) -> AsyncGenerator[Queue]:
    redis = redis_pool(url)
    try:
        yield Queue(redis)
    finally:
        await redis.aclose(close_connection_pool=True)


async def note(ctx: Ctx, name: str) -> None:
    await ctx["redis"].rpush(f"note:{name}", time.time())


async def brief(ctx: Ctx, name: str = "brief", seconds: float = 0.0) -> str:
    await note(ctx, name)
    await asyncio.sleep(seconds)
    return name


async def quiet(ctx: Ctx, name: str, seconds: float) -> None:
    """Needs no Redis of its own: only arq's books can fail."""
    ctx.setdefault("seen", set()).add(name)
    await asyncio.sleep(seconds)


async def handing_back(ctx: Ctx, seconds: float = 60, cleanup: float = 0.2) -> None:
    """As the executor: a run cut short writes that down, hands itself back and returns."""
    await note(ctx, "started")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        await asyncio.sleep(cleanup)
        await note(ctx, "handed_back")


async def letting_go(ctx: Ctx, seconds: float = 60) -> None:
    await note(ctx, "started")
    await asyncio.sleep(seconds)


async def deaf(ctx: Ctx) -> None:
    """Hears no cancellation."""
    await note(ctx, "started")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)


async def ending_the_loop(ctx: Ctx, how: str) -> None:
    """Starts what raises outside of the job's own task."""

    async def raising() -> None:
        raise KeyboardInterrupt if how == "interrupt" else SystemExit(3)

    def too_long(*_: object) -> None:
        raise TimeoutError("the alarm of a job")

    loop = asyncio.get_running_loop()
    if how == "alarm":
        signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    elif how == "callback":
        loop.call_soon(sys.exit, 3)
    elif how == "stop":
        loop.stop()
    else:
        ctx["child"] = asyncio.create_task(raising())
    await asyncio.sleep(0.1)
    await note(ctx, "went_on")


async def taking_signals(ctx: Ctx, how: str) -> None:
    """Takes the signals that stop the worker for itself."""
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
    if how == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif how == "handle":
        loop.add_signal_handler(signal.SIGTERM, int)
    elif how == "remove":
        loop.remove_signal_handler(signal.SIGTERM)
    elif how == "unheard":
        signal.set_wakeup_fd(-1)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    async def given_back() -> bool:
        return signal.getsignal(signal.SIGTERM) == before

    await until(given_back)
    await note(ctx, "given_back")


async def cancelling_all(ctx: Ctx, whose: str) -> None:
    """Cancels all tasks that it sees, among them one of its own."""
    own = asyncio.current_task()
    with job_scope("own"):
        child = asyncio.create_task(asyncio.sleep(60))
    for task in asyncio.all_tasks():
        if whose == "all" or task is not own:
            task.cancel()
    await asyncio.wait({child})
    await note(ctx, "cancelled")


async def breaking_the_loop(ctx: Ctx, how: str) -> None:
    """Ends or replaces what other jobs need of the loop, which is refused."""
    loop = asyncio.get_running_loop()
    try:
        with job_scope("own"):
            if how == "asyncgens":
                await loop.shutdown_asyncgens()
            elif how == "executor":
                await loop.shutdown_default_executor()
            elif how == "replaced":
                loop.set_default_executor(ThreadPoolExecutor())
            else:
                loop.set_task_factory(cast("Any", print))
    except RuntimeError:
        await note(ctx, "refused")


async def filling_threads(ctx: Ctx) -> None:
    """Occupies more threads than there are, for ever."""
    with job_scope("filling"):
        ctx["left"] = [asyncio.create_task(asyncio.to_thread(time.sleep, 1_000)) for _ in range(50)]
    await asyncio.sleep(0.1)
    await note(ctx, "filled")


async def resolving(ctx: Ctx) -> None:
    """Needs threads of its own, and of the process."""
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    with job_scope("resolving"):
        await asyncio.to_thread(note_at_once, "x")
    await note(ctx, "resolved")


def note_at_once(_: str) -> None:
    """Does nothing, in a thread."""


async def forking(ctx: Ctx, how: str) -> None:
    """Forks; the child goes on in the loop, or gets a signal."""
    child = os.fork()
    if child:
        if how == "terminated":
            await asyncio.sleep(0.2)
            os.kill(child, signal.SIGTERM)
        _, code = await asyncio.to_thread(os.waitpid, child, 0)
        await note(ctx, f"child_ended_{os.waitstatus_to_exitcode(code)}")
    elif how == "terminated":
        threading.Event().wait()
    else:
        for _ in range(100):
            await note(ctx, "child_went_on")


async def leaving_threads(ctx: Ctx, how: str) -> None:
    """Leaves a thread behind that never ends."""
    if how == "thread":
        threading.Thread(target=time.sleep, args=(1_000,)).start()
    else:
        ctx["left"] = asyncio.create_task(asyncio.to_thread(time.sleep, 1_000))
        await asyncio.sleep(0.1)
    await note(ctx, "left")


async def failing(ctx: Ctx) -> None:
    await note(ctx, "started")
    raise ValueError("no such luck")


async def ring(ctx: Ctx) -> None:
    await note(ctx, "ring")


async def slow_ring(ctx: Ctx) -> None:
    await note(ctx, "slow_ring")
    await asyncio.sleep(60)


async def startup(ctx: Ctx) -> None:
    await note(ctx, "startup")


async def shutdown(ctx: Ctx) -> None:
    await note(ctx, "shutdown")


FUNCTIONS = [
    func(job, max_tries=20)
    for job in (
        brief,
        quiet,
        handing_back,
        letting_go,
        deaf,
        failing,
        ending_the_loop,
        taking_signals,
        leaving_threads,
        cancelling_all,
        breaking_the_loop,
        filling_threads,
        resolving,
        forking,
    )
]


def every_second(job: Any = ring) -> CronJob:
    return cron(job, second=set(range(60)), microsecond=0)


def settings(url: str, **changes: Any) -> dict[str, Any]:
    """What `arq Settings` reads, as a dict."""
    own: dict[str, Any] = {
        "functions": FUNCTIONS,
        "redis_pool": redis_pool(url),
        "on_startup": startup,
        "on_shutdown": shutdown,
        "job_serializer": dumps,
        "job_deserializer": loads,
        "keep_result": 0,
        "timezone": UTC,
        "log_results": False,
    }
    return own | changes


def as_class(url: str, **changes: Any) -> type:
    """For a settings module of a worker process: installs our worker, too."""
    configure()
    install()
    return type("Settings", (), settings(url, **changes))


@contextlib.asynccontextmanager
async def working(url: str, **changes: Any) -> AsyncGenerator[SurvivingWorker]:
    """A worker in this process."""
    worker = SurvivingWorker(**settings(url, handle_signals=False, **changes))
    task = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        await worker.close()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def worker_process(folder: Path, url: str, **changes: Any) -> Generator[subprocess.Popen[str]]:
    """`arq Settings` as a process of its own, its lines on stderr. Cron jobs: `ringing="ring"`."""
    ringing = changes.pop("ringing", None)
    crons = f", cron_jobs=[harness.every_second(harness.{ringing})]" if ringing else ""
    name = f"settings_{time.monotonic_ns()}"
    (folder / f"{name}.py").write_text(
        "from tests.queue import harness\n"
        f"Settings = harness.as_class({url!r}, **{changes!r}{crons})\n"
    )
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-m", "arq", f"{name}.Settings"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{folder}", "PYTHONWARNINGS": "default"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
