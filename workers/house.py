"""What opens when a worker starts, beats while it lives, and closes when it stops."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app import backlog, ledger, log, run_log
from app.alerts.pings import Pings
from app.alerts.watcher import Watcher
from app.config import Config
from app.errors import WrongSchema
from app.health import keys
from app.health.facts import WorkerFacts
from app.ledger import Declared
from app.queue import redis_pool
from app.resources import House, Urls, opened
from app.runs import Leases
from app.store import schedules, tenancy
from app.store.db import AWAY
from app.words import COLLECTION
from workers import catalogue, ring, source
from workers.dispatch import Turn
from workers.spine import slots
from workers.sweep import sweep, tell_health
from workers.tidy import tidy

Hook = Callable[[dict[str, Any]], Awaitable[None]]
Result = TypeVar("Result")

RETRY_SECONDS = 0.5
ALIVE = 1.25  # leases for which a beat counts: who is silent for longer has lost its runs as well

_log = log.logger(__name__)


def startup(config: Config, where: Urls, declared: Sequence[Declared]) -> Hook:
    """The hook that opens the house into arq's `ctx`, registers its schedules and looks around."""

    async def open_house(ctx: dict[str, Any]) -> None:
        log.configure(config.log_format, config.log_level, config.secrets())
        stack = AsyncExitStack()
        limits, logins = catalogue.limits(config), catalogue.logins(config)
        try:
            house = await _patiently(
                lambda: stack.enter_async_context(
                    opened(config, where, ctx["redis"], limits, logins)
                )
            )
        except WrongSchema as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(2) from None
        watcher, pings = Watcher(config, house.pool, house.redis), Pings.of(config)
        stack.callback(watcher.close)
        stack.push_async_callback(pings.close)
        await stack.enter_async_context(run_log.kept(house.redis, config.secrets()))
        leases = Leases(house.pool, house.clock, config.lease_seconds)
        ctx.update(
            stack=stack,
            house=house,
            clients=house.clients,
            leases=leases,
            heartbeat=lambda: _beat(ctx, house, leases),
            lease_seconds=config.lease_seconds,
            known_jobs=[*{one.job for one in declared} | {source.JOB.name, COLLECTION}],
            turn=Turn(),
            # The built-in jobs never wait for an organisation's.
            slots=ctx.get("slots", max(1, config.max_jobs - len(catalogue.JOBS))),
            watcher=watcher,
            pings=pings,
        )
        await _patiently(lambda: _look_around(ctx, house, leases, declared))
        for fault in catalogue.faulty(config):
            _log.error("recipe.faulty", fault=fault)
        for job in catalogue.JOBS:
            why = job.off(config)
            if why is not None:
                _log.info("job.disabled", job=job.name, why=why)
        _log.info("worker.started", worker=house.worker, jobs=[d.key for d in declared])

    return open_house


async def _patiently(step: Callable[[], Awaitable[Result]]) -> Result:
    """A worker that comes up while Postgres or Redis is away waits for them; it does not die."""
    while True:
        try:
            return await step()
        except (RedisError, *AWAY) as error:
            _log.warning("worker.waits", error=repr(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _look_around(
    ctx: dict[str, Any], house: House, leases: Leases, declared: Sequence[Declared]
) -> None:
    if not await tenancy.enforced(house.pool):
        _log.warning("row_security.bypassed", mend="use a role without SUPERUSER and BYPASSRLS")
    queued = await ledger.register(house.pool, declared, house.clock())
    await switch_off_gone(house, declared)
    await ring.tell(house, queued)  # what it does not hear now, a sweep tells it
    await _beat(ctx, house, leases)
    await sweep(ctx)
    await tell_health(ctx)
    await tidy(ctx)


async def switch_off_gone(house: House, declared: Sequence[Declared]) -> None:
    """Switch off the schedules of recipes that are gone: they must not be overdue for ever."""
    keys = [one.key for one in declared]
    gone = await schedules.disable_gone(house.pool, source.JOB.name, keys)
    if gone:
        _log.info("source.disabled", schedules=gone, why="there is no such recipe any more")


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close what was opened, last first."""
    stack, house = ctx.get("stack"), ctx.get("house")
    if isinstance(house, House):
        try:
            await keys.forget_worker(house.redis, house.worker)
            await backlog.withdraw(house.redis, house.worker, slots(ctx))
        except RedisError:
            _log.info("worker.not_forgotten", worker=house.worker)  # its key expires
        _log.info("worker.stopped", worker=house.worker)
    if isinstance(stack, AsyncExitStack):
        await stack.aclose()


def queue(config: Config, where: Urls) -> ArqRedis:
    """The connection to the queue; opened when it is first used."""
    return redis_pool(where.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)


async def _beat(ctx: dict[str, Any], house: House, leases: Leases) -> None:
    try:
        await leases.renew()
        await house.heart.beat()
    except AWAY as error:
        _log.warning("heartbeat.no_postgres", error=str(error))
    facts = WorkerFacts(
        seen_at=house.clock(), started_at=house.started_at, running=len(leases.held)
    )
    # A Redis that hangs must not keep us from renewing our leases in time.
    async with asyncio.timeout(leases.seconds / 3):
        await house.limiter.beat(leases.seconds)
        await backlog.offer(house.redis, house.worker, slots(ctx), leases.seconds)
        ttl = house.config.lease_seconds * ALIVE
        await keys.write_worker(house.redis, house.worker, ttl, facts)
