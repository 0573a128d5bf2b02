"""What an offer is: a source that an organisation may choose, and how it becomes part of a run."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from app.errors import Failure
from app.messages import Limits, Partition, Raw, Request
from app.records import Record
from app.resources import House
from workers.job import Params, Part

NEVER_ASKED = Limits(rate=1, burst=1, concurrency=1)


class Offered(Protocol):
    """A source that may be chosen. `params`: what it may be asked for."""

    @property
    def params(self) -> type[Params]: ...

    async def part(self, house: House, org_id: UUID, choice: Mapping[str, Any], /) -> Part:
        """The source as this organisation has chosen it.

        A source that cannot be opened now fails by itself, when it is asked.
        """
        ...


class Nothing(Params):
    """A source that is asked for all it has."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A source that could not be opened: it fails with the reason, and the others go on."""

    name: str
    why: Failure
    limits: Limits = NEVER_ASKED

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """Raises what stood in the way."""
        yield from ()
        raise self.why

    def pages(self, part: Partition) -> Generator[Request, Raw, None]:
        """There are none."""
        del part
        yield from ()

    def parse(self, raw: Raw) -> Sequence[Record]:
        """Nor is there anything to read."""
        del raw
        return ()
