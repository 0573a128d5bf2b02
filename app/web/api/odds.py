"""Handlers of /odds: the prices that the operator's odds job collects, and their history.

They answer what the command `odds` prints.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from app.core.enums import Scope
from app.core.errors import NotFound
from app.odds import price_rows
from app.odds.comparison import Match
from app.store.content import odds_comparison
from app.store.content.odds_comparison import MatchFilter
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.schemas.data import (
    BestMatch,
    BestMatches,
    BestQuery,
    MatchBody,
    Matches,
    MatchesQuery,
    PriceHistory,
    PriceMove,
    PriceQuery,
    SiteMatch,
)

DEFAULT_SPAN = timedelta(days=14)
CSV = "text/csv; charset=utf-8"
MATCHES = "/odds/matches"


async def list_matches(request: ApiRequest) -> ApiResponse:
    """List matches with the prices of every site side by side, the next kick-off first."""
    query: MatchesQuery = request.query
    found, next_cursor = await _page(request, query)
    if query.format == "csv":
        return await asyncio.to_thread(_csv, query, found, next_cursor)
    return await asyncio.to_thread(_matches, found, next_cursor)


async def list_best(request: ApiRequest) -> ApiResponse:
    """List matches with the best current price of each outcome, and the margin of these."""
    found, next_cursor = await _page(request, request.query)
    return await asyncio.to_thread(_best, found, next_cursor)


async def read_match(request: ApiRequest) -> ApiResponse:
    """Read a match, by its Sportradar id or platform/event id, with the prices of every site."""
    key = request.path["match"]
    events = await odds_comparison.events(request.context.pool, key)
    rows = await odds_comparison.prices(
        request.context.pool, [event["id"] for event in events], None
    )
    found = await _compare(request, rows)
    if not found:
        raise NotFound(f"there is no match {key!r} with a price")
    body = price_rows.match_as_json(found[0])
    return ApiResponse(MatchBody.model_validate(body))


async def price_history(request: ApiRequest) -> ApiResponse:
    """List the changes of one price of a match at every site, newest first."""
    query: PriceQuery = request.query
    pool, key = request.context.pool, request.path["match"]
    before = cursor.decode(query.cursor, cursor.Instant, cursor.Number)
    pick = (query.market, query.outcome, query.line)
    events = await odds_comparison.events(pool, key)
    ids = [event["id"] for event in events]
    moves = await odds_comparison.price_history(pool, ids, pick, query.limit + 1, before)
    if not moves and before is None:
        raise NotFound(await odds_comparison.no_price_reason(pool, key, ids, pick))
    page, more = moves[-query.limit :], len(moves) > query.limit
    return ApiResponse(
        PriceHistory(
            events=[SiteMatch.model_validate(price_rows.event_as_json(event)) for event in events],
            moves=[_move(move) for move in reversed(page)],
            next_cursor=cursor.encode(page[0]["observed_at"], page[0]["id"]) if more else None,
        )
    )


async def _page(request: ApiRequest, query: BestQuery) -> tuple[list[Match], str | None]:
    """Return the matches of a page that have a price, and the cursor of the next one.

    The cursor has the range, so that all pages have that of the first.
    """
    place = cursor.decode(query.cursor, *[cursor.Instant] * 3, cursor.Text)
    since = place[0] if place else query.since or request.now
    until = place[1] if place else query.until or since + DEFAULT_SPAN
    filters = MatchFilter(
        since,
        until,
        query.competition,
        query.market,
        query.limit,
        query.teams,
        (place[2], place[3]) if place else None,
    )
    page = await odds_comparison.match_page(request.context.pool, filters)
    last = page.last
    return await _compare(request, page.prices), (
        cursor.encode(since, until, last.kickoff, last.key) if last else None
    )


async def _compare(request: ApiRequest, rows: Sequence[dict[str, Any]]) -> list[Match]:
    """Compare in a thread: thousands of prices would hold up all other requests."""
    max_age = request.context.declared.odds_max_age()
    return await asyncio.to_thread(odds_comparison.compare, rows, request.now, max_age)


def _matches(found: Sequence[Match], next_cursor: str | None) -> ApiResponse:
    bodies = [MatchBody.model_validate(price_rows.match_as_json(one)) for one in found]
    return ApiResponse(Matches(matches=bodies, next_cursor=next_cursor))


def _best(found: Sequence[Match], next_cursor: str | None) -> ApiResponse:
    bodies = [BestMatch.model_validate(price_rows.best_as_json(one)) for one in found]
    return ApiResponse(BestMatches(matches=bodies, next_cursor=next_cursor))


def _csv(query: MatchesQuery, found: Sequence[Match], next_cursor: str | None) -> ApiResponse:
    file = io.StringIO(newline="")
    price_rows.write_csv(file, found)

    async def whole() -> AsyncGenerator[bytes]:
        yield file.getvalue().encode()

    headers = {"content-disposition": 'attachment; filename="odds.csv"'}
    if next_cursor is not None:
        asked = query.model_dump(mode="json", exclude_none=True) | {"cursor": next_cursor}
        headers["link"] = f'<{MATCHES}?{urlencode(asked)}>; rel="next"'
    return ApiResponse(headers=headers, stream=whole(), media_type=CSV)


def _move(move: dict[str, Any]) -> PriceMove:
    price = None if move["price"] is None else str(move["price"])
    fields = price_rows.move_as_json(move) | {"event_id": move["event_id"], "price": price}
    return PriceMove.model_validate(fields)


ENDPOINTS: tuple[Endpoint, ...] = (
    get(MATCHES, Scope.READ, list_matches, Matches, query=MatchesQuery, stream=(CSV,), data=True),
    get("/odds/best", Scope.READ, list_best, BestMatches, query=BestQuery, data=True),
    get(f"{MATCHES}/{{match}}", Scope.READ, read_match, MatchBody, data=True),
    get(
        f"{MATCHES}/{{match}}/history",
        Scope.READ,
        price_history,
        PriceHistory,
        query=PriceQuery,
        data=True,
    ),
)
