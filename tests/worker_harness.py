"""A worker context for tests, with a database and Redis of its own, and jobs in process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from arq.connections import ArqRedis
from pydantic import ConfigDict

from app.context import WorkerContext, open_context
from app.core.config import Config
from app.fetch.client import Fetcher
from app.runs.leases import Leases
from app.sources.base import Source
from app.store.db import Pool
from app.store.runs import listing, run_rows
from app.store.servers import ServerUrls
from workers import odds, registry
from workers.execute import execute
from workers.job import Function, Job, Params, declare_job
from workers.job_options import JobOptions
from workers.run import Run
from workers.source_group import SourceGroup

T = TypeVar("T")


@asynccontextmanager
async def opened(config: Config, redis: ArqRedis) -> AsyncGenerator[WorkerContext]:
    """The worker context as a worker opens it, but asking as fast as it can and without pauses."""
    assert config.database_url is not None
    assert config.redis_url is not None
    where = ServerUrls(config.database_url.get_secret_value(), config.redis_url.get_secret_value())
    sources = {
        name: replace(limits, rate=5_000, burst=500)
        for name, limits in registry.source_limits(config).items()
    }
    async with open_context(
        config, where, redis, sources, registry.source_logins(config)
    ) as context:
        for name, limits in sources.items():
            fast = Fetcher(
                context.clients[name], context.limiter, source=name, limits=limits, rng=lambda: 0.0
            )
            signed = context.fetchers[name]
            if isinstance(signed, Fetcher):
                context.fetchers[name] = fast
            else:
                signed.fetcher = fast
        yield context


async def perform(
    context: WorkerContext,
    run_id: UUID | None = None,
    *,
    job: Job = odds.scrape_all_platforms,
    arq_id: str | None = None,
    params: dict[str, Any] | None = None,
) -> UUID:
    """Do one run as the arq job would, in this process; returns its id.

    Without `run_id` it is one asked for by hand, with these parameters.
    """
    ctx = ctx_of(context, arq_id=arq_id)
    await execute(ctx, job, None if run_id is None else str(run_id), params or {})
    return run_id or uuid5(NAMESPACE_OID, ctx["job_id"])


class AnyParams(Params):
    """Whatever parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)


def collecting(
    *sources: Source,
    group: SourceGroup = odds.GROUP,
    name: str = odds.scrape_all_platforms.name,
) -> Job:
    """A job that collects these sources as the group says."""

    async def collect(run: Run) -> None:
        await run.collect(sources)

    return declare_job(collect, JobOptions(name=name, group=group, params=AnyParams))


def job_of(body: Function, name: str = odds.scrape_all_platforms.name) -> Job:
    """A job that does this, whatever its parameters."""

    async def do(run: Run) -> object:
        return await body(run)

    return declare_job(do, JobOptions(name=name, params=AnyParams))


def ctx_of(
    context: WorkerContext, *, leases: Leases | None = None, arq_id: str | None = None
) -> dict[str, Any]:
    """What arq hands to a job, as far as our jobs look at it."""
    return {
        "context": context,
        "leases": leases or leases_of(context),
        "job_id": arq_id or uuid4().hex,
    }


def leases_of(context: WorkerContext) -> Leases:
    """The leases of another worker of this context."""
    return Leases(context.control, context.clock, context.config.lease_seconds, context.hide)


async def run_row(pool: Pool, run_id: UUID) -> dict[str, Any]:
    """The run as it is written down. It must be there."""
    row = await run_rows.read_run(pool, run_id)
    assert row is not None, f"there is no run {run_id}"
    return row


async def source_rows(pool: Pool, run_id: UUID) -> dict[str, dict[str, Any]]:
    """The sources of a run, by name."""
    return {row["source"]: row for row in await listing.sources(pool, run_id)}
