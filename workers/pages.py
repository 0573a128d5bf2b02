"""A source's pages: asked for with what is known of them, kept as they came, known again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from app import log
from app.errors import HttpStatus
from app.fetch.auth import SignedWindow
from app.fetch.client import Tally
from app.fetch.robots import Robots
from app.messages import Partition, Raw, Request
from app.resources import House
from app.store import pages
from app.store.db import Connection, Pool
from app.store.pages import Known
from app.store.runs import Claimed
from workers.budget import Budget

FULL = timedelta(hours=24)  # a page is read in full at least this often, whatever the site says

_ASKED_WITH = {"if-none-match": "etag", "if-modified-since": "last_modified"}
_UNWILLING = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.PRECONDITION_FAILED})

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """A page, always with its body, asked for at `at`.

    `known`: what is stored of these very bytes already.
    """

    raw: Raw
    at: datetime
    fingerprint: bytes
    body_hash: bytes
    known: Known | None = None

    def found(self, keys: frozenset[str], refused: frozenset[str], rejected: int) -> Known:
        """What is to be remembered of it once it is stored."""
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

    What is known of a page is known to one owner: an organisation's run is told nothing by what
    the house, or another organisation, has stored of it.
    """

    house: House
    claimed: Claimed
    source: str
    tally: Tally
    budget: Budget | None = None

    async def ask(self, request: Request, part: Partition | None, number: int) -> Page:
        """Ask for a page, unless it is unchanged: then its body is recalled. Raises Failure."""
        org_id = self.claimed.org_id
        whose = self.source if org_id is None else f"{org_id}/{self.source}"
        fingerprint = pages.fingerprint(whose, request)
        now = self.house.clock()
        known = await self._believed(fingerprint, now)
        raw = await self._unless_unchanged(request, known, part, number)
        body_hash = await pages.digest(raw.body)
        if known is None or body_hash != known.body_hash:
            return Page(raw, now, fingerprint, body_hash)
        _log.debug("page.unchanged", page=number, url=raw.url)
        return Page(raw, now, fingerprint, body_hash, known)

    async def packed(self, page: Page) -> bytes | None:
        """Its body as it is to be kept; None if it is not to be."""
        if not self.house.config.raw_days or page.known is not None:
            return None
        return await pages.packed(page.raw.body)

    async def keep(self, page: Page) -> None:
        """Keep it as it came, whatever becomes of it."""
        packed = await self.packed(page)
        if packed is not None:
            await self.keep_with(self.house.pool, page, packed)

    async def keep_with(self, connection: Pool | Connection, page: Page, packed: bytes) -> None:
        """Keep it as it came, in the transaction that stores it."""
        body = (page.body_hash, packed)
        await pages.keep(connection, self.claimed, self.source, page.raw, body)

    async def remember(self, page: Page, stored: Known, connection: Connection) -> None:
        """Note what is stored of it, in the transaction that stores it."""
        await pages.remember(connection, page.fingerprint, self.source, stored)

    async def _believed(self, fingerprint: bytes, now: datetime) -> Known | None:
        known = await pages.known(self.house.pool, fingerprint)
        # Long enough ago, the parser may be another, and the site's word is not taken for ever.
        if known is None or abs(now - known.full_fetched_at) >= FULL:
            return None
        return known

    async def _unless_unchanged(
        self, request: Request, known: Known | None, part: Partition | None, number: int
    ) -> Raw:
        conditions = _conditions(request, known)
        if known is None or not conditions:
            return await self._asked(request, part, number)
        asked = replace(request, headers={**request.headers, **conditions})
        try:
            raw = await self._asked(asked, part, number)
        except HttpStatus as failure:
            if failure.status not in _UNWILLING:
                raise
        else:
            if raw.status != HTTPStatus.NOT_MODIFIED:
                return raw
            body = await pages.recall(self.house.pool, known.body_hash)
            if body is not None:
                return replace(raw, status=HTTPStatus.OK.value, body=body)
        return await self._asked(request, part, number)

    async def _asked(self, request: Request, part: Partition | None, number: int) -> Raw:
        if self.budget is not None:
            self.budget.take()
        window = self.house.windows[self.source]
        if request.robots:
            unsigned = window.window if isinstance(window, SignedWindow) else window
            await Robots(self.house.redis).check(unsigned, request, self.tally)
        return await window.ask(request, partition=part, page=number, tally=self.tally)


def _conditions(request: Request, known: Known | None) -> Mapping[str, str]:
    # Only where the body is still there: a source needs it to go on paging.
    if known is None or not known.kept or request.method != "GET":
        return {}
    told = {header: getattr(known, name) for header, name in _ASKED_WITH.items()}
    return {header: value for header, value in told.items() if value is not None}
