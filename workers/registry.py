"""All jobs, the arq tasks that execute them, and the schedules that the settings declare."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.core.config import Config
from app.core.errors import UnknownJob
from app.core.messages import HostLimits
from app.fetch.tokens import Login
from app.ledger.edit import DeclaredSchedule
from app.store.db import Connection, Pool
from workers import collection, news, odds, recipe_dir, source, source_catalogue, stories
from workers.job import Job

JOBS: tuple[Job, ...] = (odds.JOB, news.JOB, stories.JOB)
TASKS = (
    odds.scrape_all_platforms,
    news.poll_news,
    stories.poll_stories,
    source.source,
    collection.collection,
)


def find_job(name: str) -> Job:
    """The job of that name. Raises UnknownJob, which lists the known jobs."""
    for job in (*JOBS, source.JOB):
        if job.name == name:
            return job
    raise UnknownJob(f"there is no job {name!r}; known: {', '.join(job.name for job in JOBS)}")


async def check_sources(
    connection: Pool | Connection, org_id: UUID, sources: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The faults of a preset's sources: field and message of each."""
    return source_catalogue.check_selection(
        sources, await source_catalogue.selectable_sources(connection, org_id)
    )


def source_limits(config: Config) -> dict[str, HostLimits]:
    """The rate limits of every built-in source, by its name."""
    return {source.name: source.limits for job in JOBS for source in job.every_source(config)}


def source_jobs(config: Config) -> dict[str, str]:
    """The name of the job that collects each built-in source."""
    return {source.name: job.name for job in JOBS for source in job.every_source(config)}


def source_logins(config: Config) -> dict[str, Login]:
    """The credentials of sources that need them, by source name."""
    jobs = [(job.login(config), job.every_source(config)) for job in JOBS]
    return {source.name: login for login, sources in jobs if login for source in sources}


def declared_schedules(config: Config) -> list[DeclaredSchedule]:
    """The schedules of the built-in jobs and of the recipes in SOURCES_DIR."""
    recipes = recipe_dir.load_recipes(config, frozenset(source_limits(config)))
    built_in = [job.declare_schedule(config) for job in JOBS]
    return [*built_in, *(recipe_dir.declare_schedule(config, recipe) for recipe in recipes)]


def recipe_faults(config: Config) -> list[str]:
    """The faults of the recipes in SOURCES_DIR, one line each."""
    recipes = recipe_dir.load_recipes(config, frozenset(source_limits(config)))
    return [fault for recipe in recipes for fault in recipe.faults]
