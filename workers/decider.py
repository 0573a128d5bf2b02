"""The process that decides for a worker: `python -m workers.decider`, started by the worker.

It shares no event loop, memory or connections with what sites send and what jobs do. The deciders
of all workers share the cron entries: each start is claimed by one of them.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from arq.connections import ArqRedis

from app.control import Clock, Heartbeat, close_pool, open_control_pool
from app.core import config, log
from app.core.config import Config
from app.core.errors import RollcallError
from app.health.publisher import HealthPublisher
from app.queue.clock import elapsed
from app.queue.cron_runner import CronRunner
from app.queue.jobs import redis_pool
from app.runs import log as run_log
from app.store import server_faults
from app.store.db import TRANSIENT, UNAVAILABLE, Pool
from workers.decider_process import DeciderOrder, read_order
from workers.deciding import deciding_entries, deciding_state

CONNECTIONS = 3  # to Postgres
RETRY_SECONDS = 0.5
MAX_JOBS = 64  # cron entries at once

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Deciding:
    """What deciding needs."""

    control: Pool
    redis: ArqRedis
    clock: Clock
    heartbeat: Heartbeat


async def decide(order: DeciderOrder, settings: Config, ended: asyncio.Event) -> None:
    """Decide until SIGTERM, or until `ended` is set, and for as long as what was begun takes."""
    async with AsyncExitStack() as stack:
        redis = redis_pool(order.redis, ssl_cert_reqs=settings.redis_ssl_cert_reqs)
        stack.push_async_callback(redis.aclose, close_connection_pool=True)
        pool = await _opened(order, settings, ended)
        if pool is None:
            return
        stack.push_async_callback(close_pool, pool)
        clock = Clock(timedelta(seconds=settings.clock_skew_seconds))
        longest_gap = timedelta(seconds=settings.lease_seconds)
        heartbeat = Heartbeat(pool, clock, order.worker, longest_gap)
        await _beat(heartbeat)
        state = deciding_state(order.known_jobs, settings.lease_seconds)
        with contextlib.suppress(*TRANSIENT):  # else each is read when it is decided
            await state["remembered"].read(pool, [key for key, _ in order.triggers])
        elapsed.follow(lambda: clock().timestamp())
        await stack.enter_async_context(run_log.capture(redis, settings.secrets()))
        health = HealthPublisher(pool, redis, order.worker)
        stack.push_async_callback(health.close)
        runner = CronRunner(
            redis=redis,
            entries=deciding_entries(order.triggers, settings.lease_seconds),
            ctx=state | {"context": Deciding(pool, redis, clock, heartbeat), "health": health},
            most=MAX_JOBS,
            heartbeat=lambda: _beat(heartbeat),
            beat_seconds=settings.lease_seconds / 3,
            starts=state["turn"].starts,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
        _log.info("decider.started", worker=order.worker, schedules=len(order.triggers))
        gc.freeze()  # what start-up has made lives as long as the process
        main, until = asyncio.create_task(runner.run()), asyncio.create_task(ended.wait())
        await asyncio.wait({main, until}, return_when=asyncio.FIRST_COMPLETED)
        until.cancel()
        runner.stop()
        await main


async def _opened(order: DeciderOrder, settings: Config, ended: asyncio.Event) -> Pool | None:
    """Open the pool as soon as Postgres answers; None if the worker ends before."""
    while not ended.is_set():
        try:
            return await open_control_pool(
                order.database, size=CONNECTIONS, lease_seconds=settings.lease_seconds
            )
        except (*UNAVAILABLE, *server_faults.LASTING_POSTGRES) as error:
            _log.warning("decider.waits", error=repr(error))
        await asyncio.sleep(RETRY_SECONDS)
    return None


async def _beat(heartbeat: Heartbeat) -> None:
    try:
        await heartbeat.beat()
    except TRANSIENT as error:
        _log.warning("heartbeat.failed", step="beat", error=repr(error))


async def _run(order: DeciderOrder, settings: Config) -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_the_worker_to_end() -> None:
        # Not through `sys.stdin`: Python aborts if a thread reads it when the process ends.
        while os.read(0, 65_536):
            pass
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_worker_to_end, daemon=True).start()
    await decide(order, settings, ended)


def main() -> int:
    """Decide as the order on standard input says; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        settings = config.load()
        log.configure(settings.log_format, settings.log_level, settings.secrets())
        order = read_order()
        if order is not None:
            asyncio.run(_run(order, settings))
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
