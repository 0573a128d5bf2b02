"""What a job is: declared once, in the file that does it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from app.config import Config
from app.errors import BadParameters
from app.ledger import Declared
from app.records import Record
from app.scheduling.policy import Policies
from app.scheduling.schedule import Schedule
from app.sources.base import Source
from app.store.boards import Listing
from app.store.db import Connection


class Params(BaseModel):
    """What a run of a job may be asked to do differently. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Written(Protocol):
    """What became of the rows of one page."""

    @property
    def prices(self) -> int: ...
    @property
    def inserted(self) -> int: ...
    @property
    def changed(self) -> int: ...
    @property
    def unchanged(self) -> int: ...


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


@dataclass(frozen=True, slots=True)
class Job:
    """A job with a schedule.

    `minutes`: its interval, from the settings. `every_source`: all it may ever ask.
    `sources`: what a run with these parameters asks.
    `write`: how its records are kept. `counted`: what `stats` call its records.
    `never_empty`: a source of it that has no records at all has failed, whatever it says.
    `presence`: how it is kept what the listings had and lacked, if it is.
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
    presence: Presence | None = None

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
        )

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
