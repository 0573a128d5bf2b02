"""What every source is: pure generators that ask and are answered, and a parser of bytes."""

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol, runtime_checkable

from app.errors import Incomplete
from app.messages import Limits, Partition, Raw, Request
from app.records import Record


class Source(Protocol):
    """How to ask one site for its pages, and how to read them. It never waits, retries or logs.

    A page that could not be had is thrown into the generator that asked for it, as its Failure:
    most sources let it pass, some know something else to ask for.
    """

    @property
    def name(self) -> str:
        """The source's name in settings, logs, limits, health and test folders."""
        ...

    @property
    def limits(self) -> Limits:
        """How hard the site may be asked.

        A source that learns it from its catalogue says others after that.
        """
        ...

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """Say what can fail by itself; may read a catalogue first.

        Raises Failure if the catalogue is no catalogue.
        """
        ...

    def pages(self, part: Partition) -> Generator[Request, Raw, int | Incomplete | None]:
        """Ask for the pages of one partition, one after the other, and stop.

        Returns how many records the site said there are, if it said so; or Incomplete if it stopped
        on purpose before all were had, and asking again would not help.
        Raises Failure if an answer is no page.
        """
        ...

    def parse(self, raw: Raw) -> Iterable[Record]:
        """Turn a page into records; a record that cannot be read becomes Rejected.

        Raises Failure if the whole page cannot be read.
        """
        ...


def window_of(source: Source) -> str:
    """The name of the window by which a source asks: its own, unless others may have that too."""
    window: str | None = getattr(source, "window", None)
    return window or source.name


def turn_of(source: Source) -> str:
    """In whose turn its pages are read apart: of an organisation's sources one goes at a time."""
    owner: str | None = getattr(source, "owner", None)
    return owner or window_of(source)


@runtime_checkable
class Apart(Protocol):
    """A source whose pages are read in a process of their own: others have written how."""

    def errand(self, raw: Raw) -> bytes:
        """What that process is told."""
        ...

    def returned(self, raw: Raw, answer: bytes) -> Raw:
        """The page with what was read in it. Raises Failure if it could not be."""
        ...
