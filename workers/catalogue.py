"""Every job there is, by name."""

from app.config import Config
from app.errors import UnknownJob
from app.ledger import Declared
from workers import odds
from workers.job import Job

JOBS: tuple[Job, ...] = (odds.JOB,)
FUNCTIONS = (odds.scrape_all_platforms,)


def find(name: str) -> Job:
    """The job of that name. Raises UnknownJob, which lists those there are."""
    for job in JOBS:
        if job.name == name:
            return job
    raise UnknownJob(f"there is no job {name!r}; known: {', '.join(job.name for job in JOBS)}")


def declared(config: Config) -> list[Declared]:
    """The schedules that the settings give the jobs."""
    return [job.declared(config) for job in JOBS]
