"""All jobs, the arq tasks that execute them, and the schedules that the settings declare."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.core.config import Config
from app.core.errors import UnknownJob
from app.core.messages import Limits
from app.fetch.tokens import Login
from app.ledger.edit import Declared
from app.store.db import Connection, Pool
from workers import collection, news, odds, recipe_dir, source, source_catalogue, stories
from workers.job import Job

JOBS: tuple[Job, ...] = (odds.JOB, news.JOB, stories.JOB)
FUNCTIONS = (
    odds.scrape_all_platforms,
    news.poll_news,
    stories.poll_stories,
    source.source,
    collection.collection,
)


def find(name: str) -> Job:
    """The job of that name. Raises UnknownJob, which lists the known jobs."""
    for job in (*JOBS, source.JOB):
        if job.name == name:
            return job
    raise UnknownJob(f"there is no job {name!r}; known: {', '.join(job.name for job in JOBS)}")


async def check_sources(
    connection: Pool | Connection, org_id: UUID, sources: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """The faults of a preset's sources: field and message of each."""
    return source_catalogue.check(sources, await source_catalogue.offered(connection, org_id))


def limits(config: Config) -> dict[str, Limits]:
    """The rate limits of every built-in source, by its name."""
    return {source.name: source.limits for job in JOBS for source in job.every_source(config)}


def logins(config: Config) -> dict[str, Login]:
    """The credentials of sources that need them, by source name."""
    jobs = [(job.login(config), job.every_source(config)) for job in JOBS]
    return {source.name: login for login, sources in jobs if login for source in sources}


def declared(config: Config) -> list[Declared]:
    """The schedules of the built-in jobs and of the recipes in SOURCES_DIR."""
    recipes = recipe_dir.shelf(config, frozenset(limits(config)))
    built_in = [job.declared(config) for job in JOBS]
    return [*built_in, *(recipe_dir.declared(config, recipe) for recipe in recipes)]


def faulty(config: Config) -> list[str]:
    """The faults of the recipes in SOURCES_DIR, one line each."""
    recipes = recipe_dir.shelf(config, frozenset(limits(config)))
    return [fault for recipe in recipes for fault in recipe.faults]
