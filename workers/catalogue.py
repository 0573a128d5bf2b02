"""Every job there is, by name."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.config import Config
from app.errors import UnknownJob
from app.fetch.auth import Login
from app.ledger import Declared
from app.messages import Limits
from app.store.db import Connection, Pool
from workers import collection, news, odds, offers, stories
from workers.job import Job

JOBS: tuple[Job, ...] = (odds.JOB, news.JOB, stories.JOB)
FUNCTIONS = (
    odds.scrape_all_platforms,
    news.poll_news,
    stories.poll_stories,
    collection.collection,
)


def find(name: str) -> Job:
    """The job of that name. Raises UnknownJob, which lists those there are."""
    for job in JOBS:
        if job.name == name:
            return job
    raise UnknownJob(f"there is no job {name!r}; known: {', '.join(job.name for job in JOBS)}")


async def check_sources(
    connection: Pool | Connection, org_id: UUID, sources: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """What is wrong with the sources of an organisation's preset: fields, and why."""
    return offers.check(sources, await offers.offered(connection, org_id))


def limits(config: Config) -> dict[str, Limits]:
    """How hard each source of any job may be asked, by its name."""
    return {source.name: source.limits for job in JOBS for source in job.every_source(config)}


def logins(config: Config) -> dict[str, Login]:
    """Who we are to those sources that want to know, by their name."""
    known = [(job.login(config), job.every_source(config)) for job in JOBS]
    return {source.name: login for login, sources in known if login for source in sources}


def declared(config: Config) -> list[Declared]:
    """The schedules that the settings give the jobs."""
    return [job.declared(config) for job in JOBS]
