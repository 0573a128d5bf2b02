"""Pages of a source: fetched conditionally, stored raw, recognised when unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from app.context import House
from app.core import log
from app.core.errors import HttpStatus
from app.core.messages import Partition, Raw, Request
from app.fetch.authenticated import KeyedWindow
from app.fetch.client import Tally
from app.fetch.robots import Robots
from app.fetch.tokens import SignedWindow
from app.store.content import pages
from app.store.content.pages import Known
from app.store.db import Connection, Pool
from app.store.runs.run_rows import Claimed
from workers.budget import Budget

FULL = timedelta(hours=24)  # a page is parsed again at least this often, even if unchanged

_CONDITIONAL_HEADERS = {"if-none-match": "etag", "if-modified-since": "last_modified"}
_CONDITIONS_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.PRECONDITION_FAILED})

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """A fetched page, always with its body. `at`: when it was requested.

    `known`: what an earlier run stored of the same body, if the page is unchanged.
    """

    raw: Raw
    at: datetime
    fingerprint: bytes
    body_hash: bytes
    known: Known | None = None

    def found(self, keys: frozenset[str], refused: frozenset[str], rejected: int) -> Known:
        """What to remember of the page once it is stored."""
        headers = self.raw.headers
        return Known(
            body_hash=self.body_hash,
            full_fetched_at=self.at,
            etag=pages.validator(headers, "etag"),
            last_modified=pages.validator(headers, "last-modified"),
            keys=keys,
            refused=refused,
            rejected=rejected,
        )


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of one source of one run.

    What is remembered of a page belongs to one owner: an organisation's run is independent of what
    built-in jobs, or other organisations, have stored of it.
    """

    context: House
    claimed: Claimed
    source: str
    tally: Tally
    budget: Budget | None = None
    window: str = ""
    """The name of its fetcher, if that is not the source's name."""

    async def ask(self, request: Request, part: Partition | None, number: int) -> Page:
        """Fetch a page; if the site reports it unchanged, load its body. Raises Failure."""
        org_id = self.claimed.org_id
        owner = self.source if org_id is None else f"{org_id}/{self.source}"
        fingerprint = pages.fingerprint(owner, request)
        now = self.context.clock()
        known = await self._known_page(fingerprint, now)
        raw = await self._fetch_conditionally(request, known, part, number)
        body_hash = await pages.digest(raw.body)
        if known is None or body_hash != known.body_hash:
            return Page(raw, now, fingerprint, body_hash)
        _log.debug("page.unchanged", page=number, url=raw.url)
        return Page(raw, now, fingerprint, body_hash, known)

    async def packed(self, page: Page) -> bytes | None:
        """Its body compressed for storage; None if it is not to be stored."""
        if not self.context.config.raw_days or page.known is not None:
            return None
        return await pages.packed(page.raw.body)

    async def keep(self, page: Page) -> None:
        """Store the raw page by itself, if raw pages are kept."""
        packed = await self.packed(page)
        if packed is not None:
            await self.keep_with(self.context.pool, page, packed)

    async def keep_with(self, connection: Pool | Connection, page: Page, packed: bytes) -> None:
        """Store the raw page on `connection`, in the transaction of its records."""
        body = (page.body_hash, packed)
        await pages.keep(connection, self.claimed, self.source, page.raw, body)

    async def remember(self, page: Page, stored: Known, connection: Connection) -> None:
        """Remember what was stored of the page, in the transaction of its records."""
        await pages.remember(connection, page.fingerprint, self.source, stored)

    async def _known_page(self, fingerprint: bytes, now: datetime) -> Known | None:
        known = await pages.known(self.context.pool, fingerprint)
        # After that long the parser may have changed, and the site may report it wrongly.
        if known is None or abs(now - known.full_fetched_at) >= FULL:
            return None
        return known

    async def _fetch_conditionally(
        self, request: Request, known: Known | None, part: Partition | None, number: int
    ) -> Raw:
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
            body = await pages.recall(self.context.pool, known.body_hash)
            if body is not None:
                return replace(raw, status=HTTPStatus.OK.value, body=body)
        return await self._fetch(request, part, number)

    async def _fetch(self, request: Request, part: Partition | None, number: int) -> Raw:
        if self.budget is not None:
            self.budget.take()
        window = self.context.windows[self.window or self.source]
        if request.robots:
            signed = isinstance(window, SignedWindow | KeyedWindow)
            fetcher = window.window if signed else window
            await Robots(self.context.redis).check(fetcher, request, self.tally)
        return await window.ask(request, partition=part, page=number, tally=self.tally)


def _conditions(request: Request, known: Known | None) -> Mapping[str, str]:
    # Only if the body is still stored: a source needs it to find the next page.
    if known is None or not known.kept or request.method != "GET":
        return {}
    values = {header: getattr(known, name) for header, name in _CONDITIONAL_HEADERS.items()}
    return {header: value for header, value in values.items() if value is not None}
