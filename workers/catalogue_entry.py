"""The interface of sources that an organisation may select, and a source that is unavailable."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.context import House
from app.core.errors import Failure
from app.core.messages import Limits, Partition, Raw, Request
from app.core.records import Record
from workers.job import Params, Part

NEVER_ASKED = Limits(rate=1, burst=1, concurrency=1)


class Offered(Protocol):
    """A source that may be selected. `params`: the model of its parameters."""

    @property
    def params(self) -> type[Params]: ...

    async def part(self, context: House, org_id: UUID, choice: Mapping[str, Any], /) -> Part:
        """The source as this organisation selected it.

        If it cannot be opened, the returned source raises the failure when it is collected.
        """
        ...


class Nothing(Params):
    """Parameters of a source that has none."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A source that could not be opened: it fails with the reason, the others continue."""

    name: str
    why: Failure
    limits: Limits = NEVER_ASKED

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """Raises the reason."""
        yield from ()
        raise self.why

    def pages(self, part: Partition) -> Generator[Request, Raw, None]:
        """Yields no pages."""
        del part
        yield from ()

    def parse(self, raw: Raw) -> Sequence[Record]:
        """Returns no records."""
        del raw
        return ()
