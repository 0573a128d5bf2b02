"""The interface of sources that an organisation may select, and a source that is unavailable."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.context import WorkerContext
from app.core.errors import Failure
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Record
from app.sources.base import ListingEnd
from workers.job import Params
from workers.source_group import PlannedSource

UNUSED_LIMITS = HostLimits(rate=1, burst=1, concurrency=1)


class SelectableSource(Protocol):
    """A source that may be selected. `params`: the model of its parameters."""

    @property
    def params(self) -> type[Params]: ...

    async def part(
        self, context: WorkerContext, org_id: UUID, choice: Mapping[str, Any], /
    ) -> PlannedSource:
        """The source as this organisation selected it.

        If it cannot be opened, the returned source raises the failure when it is collected.
        """
        ...


class NoParams(Params):
    """Parameters of a source that has none."""


@dataclass(frozen=True, slots=True)
class UnavailableSource:
    """A source that could not be opened: it fails with the reason, the others continue."""

    name: str
    reason: Failure
    limits: HostLimits = UNUSED_LIMITS

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Raises the reason."""
        yield from ()
        raise self.reason

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        """Yields no pages: there are no partitions. Raises the reason."""
        del part
        yield from ()
        raise self.reason

    def parse(self, raw: RawPage) -> Sequence[Record]:
        """Returns no records."""
        del raw
        return ()
