"""Pages of the odds: matches with the prices of all sites, and one match over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.config import Config
from app.core.enums import Market, MarketOutcome
from app.odds.comparison import OUTCOMES, Match
from app.store.content import odds_comparison
from app.store.content.odds_comparison import MatchFilter, MatchPage
from app.store.db import Connection
from app.store.runs.origins import origins
from app.store.schedules import heartbeats
from app.web.context import web_context
from app.web.dashboard.data import reading
from app.web.dashboard.data.line_chart import ChartLine, ChartPoint, step_chart
from app.web.dashboard.data.site_states import SiteState, site_states
from app.web.dashboard.session_auth import SessionUser
from workers import schedule_settings

PATH = "/data/odds"
MATCHES = 25  # per page
DAYS = 7  # that a page without a day looks ahead
COMPETITIONS = 300  # that are suggested for the filter
MAX_CHANGES = 20_000  # changes of one price that a chart shows
LISTED_CHANGES = 100  # of them in the table, and of the match itself
PERIODS = {"day": timedelta(days=1), "week": timedelta(days=7), "all": None}

Pick = tuple[Market, MarketOutcome, Decimal | None]


async def matches(request: Request, user: SessionUser, connection: Connection) -> Response:
    """Matches in order of kick-off, with the prices of one market at every site."""
    config = web_context(request).config
    market = _enum_param(request, "market", Market, Market.MATCH_RESULT)
    day, now = reading.day_param(request, "day"), await heartbeats.database_now(connection)
    competition = reading.text_param(request, "competition")
    teams = reading.text_param(request, "teams")
    after = reading.cursor_param(request, tuple[datetime, datetime, str])
    since = day or (after[0] if after else now)
    until = since + (timedelta(days=1) if day else timedelta(days=DAYS))
    filters = MatchFilter(
        since,
        until,
        competition or None,
        market,
        MATCHES,
        teams or None,
        (after[1], after[2]) if after else None,
    )
    page = await odds_comparison.match_page(connection, filters)
    max_age = schedule_settings.odds_max_age(config)
    compared = odds_comparison.compare(page.prices, now, max_age)
    active = {
        "market": market.value,
        "day": f"{day:%Y-%m-%d}" if day else "",
        "competition": competition,
        "teams": teams,
    }
    cursor = (since, page.last.kickoff, page.last.key) if page.last else None
    return reading.respond(
        "data/odds.html",
        user,
        "odds",
        matches=_all_of(page, compared),
        platforms=_platforms(config, page.prices),
        market=market,
        markets=list(Market),
        now=now,
        filters=active,
        competitions=await odds_comparison.competitions(connection, since, until, COMPETITIONS),
        older=reading.next_link(PATH, active, cursor),
        first_page=reading.first_link(PATH, active) if after else "",
        price_path=price_path,
        match_path=match_path,
    )


@dataclass(frozen=True, slots=True)
class ListedMatch:
    """A match of the list. `compared`: its prices; None if it has none in this market."""

    key: str
    home: str
    away: str
    kickoff: datetime
    country: str
    competition: str
    compared: Match | None


async def match(request: Request, user: SessionUser, connection: Connection) -> Response:
    """One match: all its prices, one of them over time, and its state at each site.

    Raises HTTPException 404.
    """
    config, key = web_context(request).config, request.path_params["match"]
    events = await odds_comparison.events(connection, key)
    if not events:
        raise HTTPException(404, "No such match.")
    now, ids = await heartbeats.database_now(connection), [event["id"] for event in events]
    rows = await odds_comparison.prices(connection, ids, None)
    max_age = schedule_settings.odds_max_age(config)
    compared = odds_comparison.compare(rows, now, max_age)
    pick = _pick(request, rows)
    moves = await odds_comparison.price_history(connection, ids, pick, MAX_CHANGES)
    changes = await odds_comparison.event_changes(connection, ids, LISTED_CHANGES)
    states = site_states(events, rows, pick, _platforms(config, rows), now, max_age)
    found = await origins(connection, _run_ids(moves[-LISTED_CHANGES:], changes, states), None)
    period = request.query_params.get("period", "all")
    names = {event["id"]: event["platform"] for event in events}
    return reading.respond(
        "data/match.html",
        user,
        "odds",
        key=key,
        event=max(events, key=lambda event: event["seen_at"]),
        compared=compared[0] if compared else None,
        platforms=_platforms(config, rows),
        pick=pick,
        chart=_chart(moves, names, now, period, _pick_name(pick)),
        chart_names=[names[event_id] for event_id in _ids(moves)],
        pick_name=_pick_name(pick),
        periods=list(PERIODS),
        period=period if period in PERIODS else "all",
        moves=list(reversed(moves[-LISTED_CHANGES:])),
        move_count=len(moves),
        max_changes=MAX_CHANGES,
        names=names,
        changes=changes,
        states=states,
        origins=found,
        now=now,
        price_path=price_path,
    )


def match_path(key: str) -> str:
    """The address of the page of a match."""
    return f"/data/matches/{quote(key, safe='')}"


def price_path(
    key: str,
    market: Market,
    outcome: MarketOutcome,
    line: Decimal | None,
    fragment: str = "",
    period: str = "",
) -> str:
    """The address of the page of a match that shows this price over time."""
    query = {"market": market.value, "outcome": outcome.value}
    if line is not None:
        query["line"] = str(line)
    if period:
        query["period"] = period
    return f"{match_path(key)}?{urlencode(query)}{fragment}"


def _all_of(page: MatchPage, compared: Sequence[Match]) -> list[ListedMatch]:
    by_key = {each.key: each for each in compared}
    first = {row["match"]: row for row in reversed(page.prices)}
    return [
        ListedMatch(
            picked.key,
            row["home"],
            row["away"],
            picked.kickoff,
            row["country"],
            row["competition"],
            by_key.get(picked.key),
        )
        for picked in page.matches
        if (row := first.get(picked.key)) is not None
    ]


def _platforms(config: Config, rows: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({*config.odds_platforms, *(row["platform"] for row in rows)})


def _enum_param(request: Request, name: str, kind: Any, default: Any) -> Any:
    value = request.query_params.get(name)
    if not value:
        return default
    try:
        return kind(value)
    except ValueError:
        raise HTTPException(400, f"The parameter {name} is not one of {', '.join(kind)}.") from None


def _pick(request: Request, rows: Sequence[dict[str, Any]]) -> Pick:
    """The price to show: the requested one, or the first that the match has."""
    priced = [row for row in rows if row["market"] is not None]
    first = next((row for row in priced if row["market"] == Market.MATCH_RESULT), None)
    first = first or (priced[0] if priced else None)
    market = _enum_param(
        request, "market", Market, Market(first["market"]) if first else Market.MATCH_RESULT
    )
    outcome = _enum_param(request, "outcome", MarketOutcome, OUTCOMES[market][0])
    text = reading.text_param(request, "line")
    if not text:
        return market, outcome, None
    try:
        line = Decimal(text)
    except InvalidOperation:
        line = Decimal("NaN")
    if not line.is_finite():
        raise HTTPException(400, "The parameter line is not a number such as 2.5.")
    return market, outcome, line


def _pick_name(pick: Pick) -> str:
    market, outcome, line = pick
    return f"{market} {outcome.replace('_', ' ')}{'' if line is None else f' {line}'}"


def _chart(
    moves: Sequence[dict[str, Any]], names: Mapping[int, str], now: datetime, period: str, name: str
) -> Markup:
    if not moves:
        return Markup("")
    length = PERIODS.get(period)
    since = moves[0]["observed_at"] if length is None else now - length
    lines = [
        ChartLine(names[event_id], _points(moves, event_id, since)) for event_id in _ids(moves)
    ]
    sites = ", ".join(line.name for line in lines)
    return step_chart(lines, since, now, f"Price of {name} over time at {sites}")


def _points(
    moves: Sequence[dict[str, Any]], event_id: int, since: datetime
) -> Sequence[ChartPoint]:
    """The points of one site from `since` on; the price as of then is the first."""
    points = [
        ChartPoint(
            max(move["observed_at"], since),
            None if move["price"] is None else float(move["price"]),
            held=not move["active"],
        )
        for move in moves
        if move["event_id"] == event_id
    ]
    started = [n for n, point in enumerate(points) if point.at == since]
    return points[started[-1] :] if started else points


def _ids(moves: Sequence[dict[str, Any]]) -> list[int]:
    return sorted({move["event_id"] for move in moves})


def _run_ids(
    moves: Sequence[dict[str, Any]], changes: Sequence[dict[str, Any]], states: Sequence[SiteState]
) -> list[UUID | None]:
    return [
        *(move["run_id"] for move in moves),
        *(change["run_id"] for change in changes),
        *(state.run_id for state in states),
    ]
