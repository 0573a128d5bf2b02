"""The Source protocol: generators that yield requests and receive pages, and a parser."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from app.core.errors import Gap, Incomplete
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Record


@dataclass(frozen=True, slots=True)
class ListingEnd:
    """The end of a listing, which was seen. `reason`: what showed that it is the end.

    `total`: the number of records that the site reports, if it does.
    `whole`: whether a record that no page contained is absent from the listing.
    `gap`: what was left out on purpose, and no later run requests; the run is a partial failure.
    """

    reason: str
    total: int | None = None
    whole: bool = True
    gap: Gap | None = None

    def shortfall(self, parsed: int, present: int) -> Incomplete | None:
        """Return Incomplete if fewer records are present than `total`, or none could be parsed."""
        if self.total is None or (present >= self.total and (parsed or not self.total)):
            return None
        return Incomplete(f"{parsed} records where the site says there are {self.total}")


class Source(Protocol):
    """How to request the pages of one site, and how to read them. Never waits, retries or logs.

    If a page cannot be fetched, its Failure is thrown into the generator that requested it. Most
    sources let it propagate, some request something else instead.
    """

    @property
    def name(self) -> str:
        """The name of the source in settings, logs, limits, health and test directories."""
        ...

    @property
    def limits(self) -> HostLimits:
        """Rate and concurrency limits of the site.

        They may change once `partitions` has read them from the site.
        """
        ...

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return the partitions, which fail independently; may request a catalogue first.

        Raises Failure if the catalogue cannot be read.
        """
        ...

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:
        """Request the pages of one partition in order.

        Returns the end, if it was seen: that a page has nothing more is not an end by itself.
        Returns Incomplete if the pages ended without one; the partition is then not complete, its
        cursor stays, and nothing counts as absent.
        Raises Failure if a response cannot be read.
        """
        ...

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the records of a page; a record that cannot be read becomes Rejected.

        Raises Failure if the whole page cannot be read.
        """
        ...


def fetcher_name(source: Source) -> str:
    """Return the name of the fetcher of a source: its `window`, by default its name."""
    window: str | None = getattr(source, "fetcher_name", None)
    return window or source.name


def sandbox_lock_key(source: Source) -> str:
    """Return the key under which its pages are read in the sandbox, one page at a time.

    All sources of an organisation share one key.
    """
    owner: str | None = getattr(source, "owner", None)
    return owner or fetcher_name(source)


@runtime_checkable
class SandboxedSource(Protocol):
    """A source whose pages are read in a sandbox process, because its expressions are untrusted."""

    def sandbox_request(self, raw: RawPage) -> bytes:
        """Return the encoded request to the sandbox process."""
        ...

    def with_sandbox_result(self, raw: RawPage, answer: bytes) -> RawPage:
        """Return the page with the decoded result attached. Raises Failure if reading it failed."""
        ...
