"""Pages of a source: fetched conditionally, stored raw, recognised when unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from app.context import WorkerContext
from app.core import log
from app.core.errors import HttpStatus
from app.core.messages import Partition, RawPage, SourceRequest
from app.fetch.authenticated import AnyFetcher, for_owner
from app.fetch.client import Fetcher, RequestCounts
from app.fetch.large_pages import enlarge_for
from app.fetch.robots import Robots
from app.store.content import pages
from app.store.content.pages import StoredPage
from app.store.db import Connection, Pool
from app.store.runs.attempt_rows import ClaimedRun
from workers.budget import CollectionBudget, MonthlyBudget

MAX_UNCHANGED_AGE = timedelta(
    hours=24
)  # a page is parsed again at least this often, even if unchanged

_CONDITIONAL_HEADERS = {"if-none-match": "etag", "if-modified-since": "last_modified"}
_CONDITIONS_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.PRECONDITION_FAILED})

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A fetched page, always with its body. `requested_at`: when it was requested.

    `order`: a page with a higher order was requested later, whatever the clocks say. `known`: what
    an earlier run stored of the same body, if the page is unchanged.
    """

    raw: RawPage
    requested_at: datetime
    fingerprint: bytes
    body_hash: bytes
    order: int
    known: StoredPage | None = None

    def stored_as(self, keys: frozenset[str], refused: frozenset[str], rejected: int) -> StoredPage:
        """What to remember of the page once it is stored."""
        headers = self.raw.headers
        return StoredPage(
            body_hash=self.body_hash,
            full_fetched_at=self.requested_at,
            etag=pages.validator(headers, "etag"),
            last_modified=pages.validator(headers, "last-modified"),
            keys=keys,
            refused=refused,
            rejected=rejected,
        )


@dataclass(frozen=True, slots=True)
class SourcePages:
    """The pages of one source of one run.

    What is remembered of a page belongs to one owner: an organisation's run is independent of what
    built-in jobs, or other organisations, have stored of it.
    """

    context: WorkerContext
    claimed: ClaimedRun
    source: str
    tally: RequestCounts
    budget: CollectionBudget | None = None
    fetcher: str = ""
    """The name of its fetcher, if that is not the source's name."""
    monthly: MonthlyBudget | None = None

    async def fetch(
        self, request: SourceRequest, part: Partition | None, number: int
    ) -> FetchedPage:
        """Fetch a page; if the site reports it unchanged, load its body. Raises Failure."""
        fingerprint = pages.fingerprint(self._owner(), request)
        now = self.context.clock()
        order, stored = await pages.look_up(self.context.pool, fingerprint)
        # After that long the parser may have changed, and the site may report it wrongly.
        is_old = stored is None or abs(now - stored.full_fetched_at) >= MAX_UNCHANGED_AGE
        known = None if is_old else stored
        raw = await self._fetch_conditionally(request, known, part, number)
        await enlarge_for(len(raw.body))  # the body of an unchanged page is a stored one
        body_hash = await pages.digest(raw.body)
        if known is None or body_hash != known.body_hash:
            return FetchedPage(raw, now, fingerprint, body_hash, order)
        _log.debug("page.unchanged", page=number, url=raw.url)
        return FetchedPage(raw, now, fingerprint, body_hash, order, known)

    def _owner(self) -> str:
        """Whose page it is: of the organisation's source, with the credentials that it has now."""
        if self.claimed.org_id is None:
            return self.source
        _, _, credentials = _plain(self._fetcher()).tenant.partition(":")
        owner = f"{self.claimed.org_id}/{self.source}"
        return f"{owner}/{credentials}" if credentials else owner

    def _fetcher(self) -> AnyFetcher:
        fetcher = self.context.fetchers[self.fetcher or self.source]
        org_id = self.claimed.org_id
        return fetcher if org_id is None else for_owner(fetcher, org_id.hex)

    async def compressed(self, page: FetchedPage) -> bytes | None:
        """Its body compressed for storage; None if it is not to be stored."""
        if not self.context.config.raw_days or page.known is not None:
            return None
        return await pages.compressed(page.raw.body)

    async def store_raw(self, page: FetchedPage) -> None:
        """Store the raw page by itself, if raw pages are kept."""
        packed = await self.compressed(page)
        if packed is not None:
            await self.store_raw_on(self.context.pool, page, packed)

    async def store_raw_on(
        self, connection: Pool | Connection, page: FetchedPage, packed: bytes
    ) -> None:
        """Store the raw page on `connection`, in the transaction of its records."""
        body = (page.body_hash, packed)
        await pages.save_raw_page(connection, self.claimed, self.source, page.raw, body)

    async def remember(self, page: FetchedPage, stored: StoredPage, connection: Connection) -> None:
        """Remember what was stored of the page, in the transaction of its records."""
        await pages.save_validator(connection, page.fingerprint, self.source, stored)

    async def _fetch_conditionally(
        self, request: SourceRequest, known: StoredPage | None, part: Partition | None, number: int
    ) -> RawPage:
        conditions = _conditions(request, known)
        if known is None or not conditions:
            return await self._fetch(request, part, number)
        asked = replace(request, headers={**request.headers, **conditions})
        try:
            raw = await self._fetch(asked, part, number)
        except HttpStatus as failure:
            if failure.status not in _CONDITIONS_REFUSED:
                raise
        else:
            if raw.status != HTTPStatus.NOT_MODIFIED:
                return raw
            stored = await pages.load_unmodified(
                self.context.pool, self.claimed, self.source, raw, known.body_hash
            )
            if stored is not None:
                return stored
        return await self._fetch(request, part, number)

    async def _fetch(self, request: SourceRequest, part: Partition | None, number: int) -> RawPage:
        if self.budget is not None:
            self.budget.count_page()
        if self.monthly is not None:
            now = self.context.clock()
            await self.monthly.spend(self.context.pool, now, catalogue=part is None)
        fetcher = self._fetcher()
        if request.robots:
            await Robots(self.context.redis).check(_plain(fetcher), request, self.tally)
        raw = await fetcher.fetch(request, self.tally)
        return replace(raw, partition=part, page=number)


def _plain(fetcher: AnyFetcher) -> Fetcher:
    """The fetcher without its credentials."""
    return fetcher if isinstance(fetcher, Fetcher) else fetcher.fetcher


def _conditions(request: SourceRequest, known: StoredPage | None) -> Mapping[str, str]:
    # Only if the body is still stored: a source needs it to find the next page.
    if known is None or not known.kept or request.method != "GET":
        return {}
    values = {header: getattr(known, name) for header, name in _CONDITIONAL_HEADERS.items()}
    return {header: value for header, value in values.items() if value is not None}
