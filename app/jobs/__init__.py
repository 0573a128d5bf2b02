"""Own jobs and sources: what a file in `jobs/` imports. See docs/own-jobs.md.

These names change only with a notice in CHANGELOG.md, one release ahead.
"""

from app.core.errors import Failure, Gap, Incomplete, LeaseLost, RateLimited, RunDeferred, Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Item, Rejected
from app.sources.base import ListingEnd, Source
from app.sources.expectations import Expectations
from workers.job import Job, job
from workers.job_options import JobOptions
from workers.own_source import SourceOptions, source
from workers.run import Run

__all__ = [
    "Expectations",
    "Failure",
    "Gap",
    "HostLimits",
    "Incomplete",
    "Item",
    "Job",
    "JobOptions",
    "LeaseLost",
    "ListingEnd",
    "Partition",
    "RateLimited",
    "RawPage",
    "Rejected",
    "Run",
    "RunDeferred",
    "Schema",
    "Source",
    "SourceOptions",
    "SourceRequest",
    "job",
    "source",
]
