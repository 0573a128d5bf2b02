"""What a job is: declared once, in the file that does it."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from app.config import Config
from app.errors import BadParameters
from app.fetch.auth import Login
from app.ledger import Declared
from app.records import Record
from app.resources import House
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.sources.base import Source
from app.store.boards import Listing
from app.store.db import Connection
from app.store.progress import NAMES, SourceRow
from workers.budget import Budget


class Params(BaseModel):
    """What a run of a job may be asked to do differently. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Written(Protocol):
    """What became of the rows of one page."""

    @property
    def prices(self) -> int: ...
    @property
    def points(self) -> int: ...
    @property
    def inserted(self) -> int: ...
    @property
    def changed(self) -> int: ...
    @property
    def unchanged(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Turned:
    """A partition whose last page has just been written. `begun`: when its first page came."""

    source: str
    partition: str
    begun: datetime
    run_id: UUID


class Presence(Protocol):
    """How a job keeps what its sources' listings had, beside the records themselves."""

    async def listed(self, connection: Connection, listing: Listing, run_id: UUID, /) -> None:
        """A partition was listed from end to end. In the transaction of its last page."""
        ...

    async def glimpsed(self, connection: Connection, listing: Listing, run_id: UUID, /) -> None:
        """A partition was listed in part."""
        ...

    async def catalogued(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
        /,
    ) -> None:
        """All partitions that the source has were listed from end to end, in this run."""
        ...


Write = Callable[[Connection, Sequence[Any], datetime, UUID], Awaitable[Written]]
Prepare = Callable[[House, Sequence[Any]], Awaitable[Sequence[Source]]]
Turn = Callable[[Connection, Turned], Awaitable[None]]
Unmoved = Callable[[Connection, Collection[str], datetime], Awaitable[None]]


def _always_on(config: Config) -> str | None:
    del config
    return None


def _nobody(config: Config) -> Login | None:
    del config
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """A job with a schedule.

    `minutes`: its interval, from the settings. `every_source`: all it may ever ask.
    `sources`: what a run with these parameters asks.
    `write`: how its records are kept. `counted`: what `stats` call its records.
    `never_empty`: a source of it that has no records at all has failed, whatever it says.
    `stored`: what `stats` call its new rows.
    `stats`: what a source's row adds to the run's, if that is not what all jobs count.
    `off`: why the settings switch it off, if they do. `login`: who it is to its sources.
    `prepare`: gives the sources what earlier runs left for them.
    `turned`: what is done in the transaction of a partition's last page.
    `presence`: how it is kept what the listings had and lacked, if it is.
    `unmoved`: what is done about the records (their keys) of a page that is unchanged.
    """

    name: str
    minutes: Callable[[Config], float]
    params: type[Params]
    every_source: Callable[[Config], Sequence[Source]]
    sources: Callable[[Config, Any], Sequence[Source]]
    write: Write
    key: Callable[[Record], str]
    counted: str
    never_empty: bool
    stored: str = "inserted"
    stats: Callable[[SourceRow], dict[str, int]] | None = None
    off: Callable[[Config], str | None] = _always_on
    login: Callable[[Config], Login | None] = _nobody
    prepare: Prepare | None = None
    turned: Turn | None = None
    presence: Presence | None = None
    unmoved: Unmoved | None = None

    def declared(self, config: Config) -> Declared:
        """The job's schedule, as the settings have it."""
        seconds = self.minutes(config) * 60
        return Declared(
            key=self.name,
            job=self.name,
            schedule=Schedule.every(seconds, name=self.name),
            policies=Policies(
                misfire_grace=timedelta(seconds=config.misfire_grace_seconds),
                timeout=config.job_timeout_seconds,
                max_attempts=config.max_attempts,
            ),
            enabled=self.off(config) is None,
        )

    async def prepared(self, house: House, params: Params) -> Sequence[Source]:
        """The sources that a run with these parameters asks. Raises Auth for want of a login."""
        sources = self.sources(house.config, params)
        return sources if self.prepare is None else await self.prepare(house, sources)

    def told(self, row: SourceRow) -> dict[str, int]:
        """What a source's row adds to the run's stats."""
        if self.stats is not None:
            return self.stats(row)
        counted = {name: getattr(row.counts, name) for name in NAMES if name != "points"}
        return {self.counted if name == "records" else name: n for name, n in counted.items()}

    def understood(self, params: dict[str, Any]) -> Params:
        """The parameters of a run, checked. Raises BadParameters, which names each fault."""
        try:
            return self.params.model_validate(params)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'parameters'}: {fault['msg']}"
                for fault in error.errors(include_url=False)
            )
            known = ", ".join(self.params.model_fields) or "none"
            raise BadParameters(f"{self.name}: {faults} (known: {known})") from None


@dataclass(frozen=True, slots=True)
class Part:
    """One source of a run, and the job by whose rules it is read and kept."""

    job: Job
    source: Source


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. `budget`: what it may use up, if that is limited."""

    parts: Sequence[Part]
    budget: Budget | None = None
