"""All jobs: the built-in ones, and those of JOBS and of installed packages. Only collects."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from arq.worker import Function, func
from pydantic import SecretStr

from app.core import config as settings
from app.core.config import Config
from app.core.enums import COLLECTION_TASK, SOURCE_TASK
from app.core.errors import BadConfig, BadJob, BadSchedule, UnknownJob
from app.core.messages import HostLimits
from app.fetch.authenticated import Login
from app.ledger.edit import DeclaredSchedule
from app.store.db import Connection, Pool
from app.store.runs.run_rows import is_enqueued_run
from workers import collection, discovery, news, odds, recipe_dir, source, source_catalogue, stories
from workers.execute import execute
from workers.job import Job
from workers.run import unset_secret
from workers.source_group import SourceGroup

SITES: tuple[Job, ...] = (odds.scrape_all_platforms, news.poll_news, stories.poll_stories)
BUILT_IN: tuple[Job, ...] = (*SITES, source.collect_recipe, collection.collection)


@dataclass(frozen=True, slots=True)
class JobRegistry:
    """Every job that this process knows, the schedules they declare, and what is faulty.

    `secrets`: those that own jobs declare and that are set, by their names.
    """

    jobs: tuple[Job, ...]
    declared: tuple[DeclaredSchedule, ...]
    faults: tuple[str, ...]
    secrets: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr])

    def tasks(self) -> list[Function]:
        """The arq functions that execute the jobs."""
        return [arq_task(job) for job in self.jobs]

    def names(self) -> list[str]:
        """The names of the jobs, which are those of their arq functions."""
        return [job.name for job in self.jobs]


def load(config: Config) -> JobRegistry:
    """All jobs by these settings. Own jobs that cannot be loaded are faults.

    Raises BadConfig, with a line for each built-in job whose settings are inconsistent.
    """
    found = discovery.discover(config, BUILT_IN)
    faults = list(found.faults)
    if found.jobs:
        # They may use `run.session`: what it needs is loaded now, not inside the event loop.
        for name in ("app.store.sessions", "sqlalchemy.dialects.postgresql.asyncpg"):
            importlib.import_module(name)
    declared: list[DeclaredSchedule] = []
    invalid: list[str] = []
    for job in BUILT_IN:
        try:
            declared += job.declared(config)
        except BadConfig as error:
            invalid.append(str(error))
    if invalid:
        raise BadConfig("\n".join(invalid))
    jobs = list(BUILT_IN)
    for job in found.jobs:
        try:
            declared += _schedules_of(job, config)
        except BadJob as error:
            faults.append(str(error))
        else:
            jobs.append(job)
    wanted = {name: job for job in jobs for name in job.secrets}
    secrets = {name: value for name in wanted if (value := settings.secret(name)) is not None}
    faults += [
        f"{job.defined_at}: {unset_secret(name, job.name)}"
        for name, job in wanted.items()
        if name not in secrets
    ]
    return JobRegistry(tuple(jobs), tuple(declared), tuple(faults), secrets)


def _schedules_of(job: Job, config: Config) -> Sequence[DeclaredSchedule]:
    """The schedules of an own job. Raises BadJob if it cannot be used with these settings."""
    try:
        if job.group is not None:
            job.group.every_source(config)
        return job.declared(config)
    except (BadSchedule, BadConfig) as error:  # with the defaults of these settings
        raise BadJob(f"{job.defined_at}: {error}") from None
    except Exception as error:
        raise BadJob(
            f"{job.defined_at}: the job {job.name!r} cannot be used: its source without parameters,"
            f" or its schedule, raised {error!r}: correct it"
        ) from error


def arq_task(job: Job) -> Function:
    """The arq function that executes the job's runs, under the job's name.

    Rollcall enqueues a run with its id; arguments that others enqueue are parameters of a new one.
    """

    async def task(ctx: dict[str, Any], /, *args: Any, **params: Any) -> None:
        if len(args) == 1 and is_enqueued_run(ctx["job_id"], args[0]):
            await execute(ctx, job, args[0])
        else:
            await execute(ctx, job, params=job.by_name(args, params))

    return func(task, name=job.name)  # pyright: ignore[reportArgumentType] - a parameter may be `ctx`


def find_job(config: Config, name: str) -> Job:
    """The job of that name. Raises UnknownJob, which lists the known jobs."""
    loaded = load(config)
    for job in loaded.jobs:
        if job.name == name and name != COLLECTION_TASK:
            return job
    hidden = (SOURCE_TASK, COLLECTION_TASK)
    known = ", ".join(name for name in loaded.names() if name not in hidden)
    faulty = f"; {len(loaded.faults)} could not be loaded, see `doctor`" if loaded.faults else ""
    raise UnknownJob(f"there is no job {name!r}; known: {known}{faulty}")


async def check_sources(
    connection: Pool | Connection, org_id: UUID, sources: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The faults of a preset's sources: field and message of each."""
    return source_catalogue.check_selection(
        sources, await source_catalogue.selectable_sources(connection, org_id)
    )


def source_groups(config: Config) -> list[tuple[Job, SourceGroup]]:
    return [(job, job.group) for job in load(config).jobs if job.group is not None]


def source_limits(config: Config) -> dict[str, HostLimits]:
    """The rate limits of every source but recipes, by its name."""
    groups = source_groups(config)
    return {one.name: one.limits for _, group in groups for one in group.every_source(config)}


def source_jobs(config: Config) -> dict[str, str]:
    """The name of the job that collects each source, recipes excepted."""
    groups = source_groups(config)
    return {one.name: job.name for job, group in groups for one in group.every_source(config)}


def source_names(config: Config) -> list[str]:
    """The names of all sources, with those of the recipes in SOURCES_DIR."""
    return [*source_jobs(config), *(recipe.name for recipe in recipe_dir.load_recipes(config))]


def source_logins(config: Config) -> dict[str, Login]:
    """The credentials of sources that need them, by source name."""
    groups = [(group.login(config), group) for _, group in source_groups(config)]
    return {
        one.name: login for login, group in groups if login for one in group.every_source(config)
    }


def declared_schedules(config: Config) -> list[DeclaredSchedule]:
    """The schedules of all jobs, and of the recipes in SOURCES_DIR."""
    return list(load(config).declared)


def recipe_faults(config: Config) -> list[str]:
    """The faults of the recipes in SOURCES_DIR, one line each."""
    recipes = recipe_dir.load_recipes(config, frozenset(source_limits(config)))
    return [fault for recipe in recipes for fault in recipe.faults]
