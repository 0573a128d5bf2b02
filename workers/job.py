"""The declaration of a job: its schedule, sources, storage and hooks; and the plan of a run."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from app.context import WorkerContext
from app.core.config import Config
from app.core.errors import BadParameters
from app.core.records import Record
from app.fetch.tokens import Login
from app.ledger.edit import DeclaredSchedule
from app.runs.attempts import AttemptOutcome
from app.sources.base import Source
from app.sources.expectations import Expectations
from app.store.content.listings import Listing
from app.store.db import Connection
from app.store.runs.progress import COUNT_NAMES, SourceProgress
from app.store.runs.run_rows import ClaimedRun
from workers import expectations, schedule_settings
from workers.budget import CollectionBudget


class Params(BaseModel):
    """Parameters of a run. Unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageWriteCounts(Protocol):
    """Counts of the rows that storing one page wrote."""

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
class CompletedPartition:
    """A partition whose last page has been stored. `started_at`: when its first page was
    fetched."""

    source: str
    partition: str
    started_at: datetime
    run_id: UUID


class ListingTracker(Protocol):
    """Records which keys a source's listings contained, so that missing records can be marked."""

    async def record_listing(
        self, connection: Connection, listing: Listing, run_id: UUID, /
    ) -> None:
        """A partition was listed completely. Called in the transaction of its last page."""
        ...

    async def record_partial_listing(
        self, connection: Connection, listing: Listing, run_id: UUID, /
    ) -> None:
        """A partition was listed in part: missing keys mean nothing."""
        ...

    async def record_partitions(
        self,
        connection: Connection,
        platform: str,
        partitions: Sequence[str],
        at: datetime,
        run_id: UUID,
        /,
    ) -> None:
        """All partitions of the source were listed completely in this run."""
        ...

    async def revert_absences(self, connection: Connection, platform: str, run_id: UUID, /) -> None:
        """The source broke an expectation: keys found missing in this run are not trusted."""
        ...


Write = Callable[[Connection, Sequence[Any], datetime, UUID], Awaitable[PageWriteCounts]]
Prepare = Callable[[WorkerContext, Sequence[Any]], Awaitable[Sequence[Source]]]
OnPartitionDone = Callable[[Connection, CompletedPartition], Awaitable[None]]
OnUnchangedPage = Callable[[Connection, Collection[str], datetime], Awaitable[None]]


def _always_on(config: Config) -> str | None:
    del config
    return None


def _no_login(config: Config) -> Login | None:
    del config
    return None


@dataclass(frozen=True, slots=True)
class Job:
    """A job with a schedule.

    `settings`: the prefix of the settings of its schedule, such as `scrape` of SCRAPE_SCHEDULE.
    `every_source`: all sources that it can collect.
    `sources`: the sources of a run with these parameters.
    `write`: stores the records of a page. `record_key`: the key of a record.
    `records_stat`: the name in `stats` for records.
    `never_empty`: a source that returns no records at all has failed.
    `stats`: what a source's row adds to the run's stats, if that differs from the default counts.
    `disabled_reason`: why the settings disable the job, or None. `login`: credentials for its
    sources, or None.
    `prepare`: adds to the sources what earlier runs stored for them, such as cursors.
    `on_partition_done`: called in the transaction of a partition's last page.
    `listing_tracker`: records what the listings contained, if that is tracked.
    `on_unchanged_page`: called with the keys of the records of a page that is unchanged.
    `expectations`: expectations of a source; a run that breaks one is a partial failure.
    """

    name: str
    settings: str
    params: type[Params]
    every_source: Callable[[Config], Sequence[Source]]
    sources: Callable[[Config, Any], Sequence[Source]]
    write: Write
    record_key: Callable[[Record], str]
    records_stat: str
    never_empty: bool
    stats: Callable[[SourceProgress], dict[str, int]] | None = None
    disabled_reason: Callable[[Config], str | None] = _always_on
    login: Callable[[Config], Login | None] = _no_login
    prepare: Prepare | None = None
    on_partition_done: OnPartitionDone | None = None
    listing_tracker: ListingTracker | None = None
    on_unchanged_page: OnUnchangedPage | None = None
    expectations: Callable[[Source], Expectations] = expectations.expectations_of

    def declare_schedule(self, config: Config) -> DeclaredSchedule:
        """The job's schedule, from the settings. Raises BadConfig if they are inconsistent."""
        return schedule_settings.declare(
            config, self.name, self.settings, enabled=self.disabled_reason(config) is None
        )

    async def plan(
        self, context: WorkerContext, claimed: ClaimedRun, _: AttemptOutcome
    ) -> "RunPlan":
        """The plan of a run: the sources for its parameters. Raises BadParameters."""
        sources = await self.prepare_sources(context, self.validate_params(claimed.params))
        return RunPlan([PlannedSource(self, source) for source in sources])

    async def prepare_sources(self, context: WorkerContext, params: Params) -> Sequence[Source]:
        """The sources of a run with these parameters. Raises Auth if credentials are missing."""
        sources = self.sources(context.config, params)
        return sources if self.prepare is None else await self.prepare(context, sources)

    def row_stats(self, row: SourceProgress) -> dict[str, int]:
        """The counts that a source's row adds to the run's stats."""
        if self.stats is not None:
            return self.stats(row)
        counted = {name: getattr(row.counts, name) for name in COUNT_NAMES if name != "points"}
        return {self.records_stat if name == "records" else name: n for name, n in counted.items()}

    def validate_params(self, params: dict[str, Any]) -> Params:
        """The validated parameters of a run. Raises BadParameters, which lists each fault."""
        try:
            return self.params.model_validate(params)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'parameters'}: "
                f"{fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_url=False)
            )
            known = ", ".join(self.params.model_fields) or "none"
            raise BadParameters(f"{self.name}: {faults} (known: {known})") from None


@dataclass(frozen=True, slots=True)
class PlannedSource:
    """One source of a run, and the job that says how its records are read and stored."""

    job: Job
    source: Source


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The sources that a run collects. `budget`: its limits on pages and bytes, if any.

    `on_collected`: called with the outcome once the sources are collected.
    """

    sources: Sequence[PlannedSource]
    budget: CollectionBudget | None = None
    on_collected: Callable[[AttemptOutcome], Awaitable[None]] | None = None
