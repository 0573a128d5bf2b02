"""Stand-in for BetPawa: no envelope, JSON only on request, v4 and the older v3 shape."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from scripts.standin.wire import Reply, Request, json_reply
from scripts.standin.world import Board, Line, Match, View, World, site_name

NAME = "betpawa"
FOOTBALL = "2"
_MOST = 100
_FIRST_ID = 33_300_000
_RESULT, _LINES, _BOTH, _DOUBLE = "3743", "5000", "3795", "4693"
_NAMES = {
    _RESULT: "1X2 - FT",
    _LINES: "Total Score Over/Under - FT",
    _BOTH: "Both Teams To Score - FT",
    _DOUBLE: "Double Chance - FT",
}
Json = dict[str, Any]


class _Zones(msgspec.Struct, frozen=True):
    competitions: list[str] = []


class _Filter(msgspec.Struct, frozen=True, rename="camel"):
    event_type: str = "UPCOMING"
    categories: list[str] = []
    zones: _Zones = _Zones()


class _Shown(msgspec.Struct, frozen=True, rename="camel"):
    market_types: list[str] = []


class _Query(msgspec.Struct, frozen=True):
    query: _Filter
    view: _Shown = _Shown()
    skip: int = 0
    take: int = 20
    sort: dict[str, str] = {}


class _Asked(msgspec.Struct):
    queries: list[_Query]


class BetPawa:
    """Serves the paths below `/betpawa/v4` and `/betpawa/v3`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._matches = world.listed[NAME]
        self._by_id = {str(_FIRST_ID + match.number): match for match in self._matches}
        self._events: dict[tuple[int, bool, tuple[str, ...]], tuple[int, bytes]] = {}
        self._routes: dict[str, Callable[[Request, View, bool], Reply]] = {
            "categories/list/all": self._categories,
            "categories/list/2": self._competitions,
            "events/lists/by-queries": self._by_queries,
        }

    def answer(self, path: str, request: Request, view: View) -> Reply:
        """Answer a request; `path` is the part after the site's prefix."""
        _, version, rest = (*path.split("/", 2), "", "")[:3]
        if version not in {"v3", "v4"}:
            return _error(404, "NOT_FOUND", "No such version")
        if not request.headers.get("x-pawa-brand"):
            return _error(400, "BAD_REQUEST", "Unknown brand")
        reply = self._routed(rest, request, view, version == "v3")
        if version == "v4" and "application/json" not in request.headers.get("accept", ""):
            # Without `accept: application/json` the site sends its own binary format.
            return Reply(
                reply.status, b"\x0a\x0f\x12\x0d\x08\x96\x01pawa", "application/x-protobuf"
            )
        return reply

    def failed(self) -> Reply:
        """Return the site's error response with HTTP 200: the empty page of its web app."""
        return Reply(
            200, b"<!doctype html><html><body><div id=app></div></body></html>", "text/html"
        )

    def _routed(self, rest: str, request: Request, view: View, old: bool) -> Reply:
        route = self._routes.get(rest)
        if route is not None:
            return route(request, view, old)
        match = self._by_id.get(rest.removeprefix("events/"))
        if match is None:
            return _error(404, "NOT_FOUND", "Not found")
        return Reply(200, self._encoded(match, tuple(_NAMES), view, old))

    def _categories(self, request: Request, view: View, old: bool) -> Reply:
        del request, view, old
        counts = ((FOOTBALL, "Football", len(self._matches)), ("3", "Basketball", 0))
        return json_reply(
            {
                "onlyMeta": [
                    {
                        "category": {"id": number, "name": name},
                        "eventCounts": {"live": 0, "upcoming": upcoming},
                    }
                    for number, name, upcoming in counts
                ]
            }
        )

    def _competitions(self, request: Request, view: View, old: bool) -> Reply:
        del request, view, old
        regions: dict[int, Json] = {}
        for league in dict.fromkeys(match.competition for match in self._matches):
            region = regions.setdefault(
                league.country_number,
                {
                    "region": {"id": str(250 + league.country_number), "name": league.country},
                    "competitions": [],
                },
            )
            region["competitions"].append(
                {"competition": {"id": str(league.betpawa), "name": league.name}}
            )
        football = {"id": FOOTBALL, "name": "Football"}
        return json_reply(
            {"withRegions": [{"category": football, "regions": list(regions.values())}]}
        )

    def _by_queries(self, request: Request, view: View, old: bool) -> Reply:
        text = request.params().get("q")
        if text is None:
            return _error(400, "BAD_REQUEST", "Request is empty")
        try:
            asked = msgspec.json.decode(text, type=_Asked)
        except msgspec.DecodeError:
            return _error(400, "BAD_REQUEST", "Malformed query")
        if any(query.take > _MOST for query in asked.queries):
            return _error(400, "BAD_REQUEST", "The maximum number of events is 100")
        answers = (self._answered(query, view, old) for query in asked.queries)
        return Reply(200, b'{"responses":[%s]}' % b",".join(answers))

    def _answered(self, query: _Query, view: View, old: bool) -> bytes:
        matches = self._chosen(query)[query.skip : query.skip + query.take]
        if not matches:
            return b"{}"
        markets = tuple(query.view.market_types)
        shown = matches[::2] if view.partial else matches
        events = (self._encoded(match, markets, view, old) for match in shown)
        return b'{"responses":[%s]}' % b",".join(events)

    def _chosen(self, query: _Query) -> Sequence[Match]:
        wanted = query.query
        if wanted.event_type != "UPCOMING" or FOOTBALL not in wanted.categories:
            return ()
        leagues = set(wanted.zones.competitions)
        matches: Iterable[Match] = self._matches
        if leagues:
            matches = [m for m in matches if str(m.competition.betpawa) in leagues]
        if "startTime" in query.sort:
            return sorted(matches, key=lambda m: (m.kickoff, m.number))
        return tuple(matches)

    def _encoded(self, match: Match, markets: tuple[str, ...], view: View, old: bool) -> bytes:
        moves, key = view.moves[match.number], (match.number, old, markets)
        known = self._events.get(key)
        if known is None or known[0] != moves:
            shaped = self._event(match, moves, markets)
            known = moves, msgspec.json.encode(_as_v3(shaped) if old else shaped)
            self._events[key] = known
        return known[1]

    def _event(self, match: Match, moves: int, wanted: tuple[str, ...]) -> Json:
        league, home, away = (
            match.competition,
            site_name(NAME, match.home),
            site_name(NAME, match.away),
        )
        neutral = " (n)" if self._world.has_oddity(match, 0.04, NAME, "neutral") else ""
        event: Json = {
            "id": str(_FIRST_ID + match.number),
            "name": f"{home} - {away}{neutral}",
            "participants": [
                {"id": str(658_000 + 2 * match.number), "name": home, "position": 1},
                {"id": str(658_001 + 2 * match.number), "name": away, "position": 2},
            ],
            "startTime": f"{match.kickoff:%Y-%m-%dT%H:%M:%SZ}",
            "totalMarketCount": str(60 + match.number % 60),
            "version": str(64 + moves),
            "category": {"id": FOOTBALL, "name": "Football"},
            "region": {"id": str(250 + league.country_number), "name": league.country},
            "competition": {"id": str(league.betpawa), "name": league.name},
            "additionalInfo": {"inplayBooked": True},
            "markets": [
                one for one in self._markets(match, moves) if one["marketType"]["id"] in wanted
            ],
        }
        widgets = self._widgets(match)
        if widgets is not None:
            event["widgets"] = widgets
        if self._world.has_oddity(match, 0.02, NAME, "away first"):
            event["participants"].reverse()
        return event

    def _widgets(self, match: Match) -> list[Json] | None:
        genius = {"id": str(13_599_000 + match.number), "type": "GENIUSSPORTS"}
        if self._world.lacks_id(NAME, match):
            return None if self._world.has_oddity(match, 0.3, NAME, "no widgets") else [genius]
        radar = {"id": match.sportradar_id, "type": "SPORTRADAR"}
        return [{**radar, "retention": "PREMATCH"}, genius, {**radar, "retention": "INPLAY"}]

    def _markets(self, match: Match, moves: int) -> list[Json]:
        board = self._world.board(NAME, match, moves)
        first = 10 * _FIRST_ID + 100 * match.number
        markets = [
            _market(_RESULT, [_row(first, _result(board))]),
            _market(_LINES, [_line(first + 1 + at, line) for at, line in enumerate(board.lines)]),
            _market(_BOTH, [_row(first + 20, _both(board))]),
            _market(_DOUBLE, [_row(first + 30, _double(board))]),
        ]
        has_oddity = self._world.has_oddity
        if has_oddity(match, 0.03, NAME, "suspended"):
            markets[0]["row"][0]["prices"][1]["suspended"] = True
        if has_oddity(match, 0.02, NAME, "one-sided"):
            markets[1]["row"][-1]["prices"].pop()
        if has_oddity(match, 0.01, NAME, "no goals market"):
            del markets[2]
        return markets


def _error(status: int, name: str, message: str) -> Reply:
    return json_reply({"error": {"code": name, "message": message}}, status)


def _market(number: str, rows: list[Json]) -> Json:
    name = _NAMES[number]
    kind = {"id": number, "name": name, "displayName": name.replace(" - FT", " | Full Time")}
    return {"marketType": {**kind, "priority": 1, "tabs": ["all", "popular"]}, "row": rows}


def _row(number: int, prices: Iterable[tuple[str, str, int]]) -> Json:
    return {
        "id": str(number),
        "prices": [
            {
                "id": str(4 * number + at),
                "name": name,
                "typeId": kind,
                "odds": odds / 100,
                "displayName": name,
                "probability": {"win": round(95 / odds, 4), "refund": 0.0},
            }
            for at, (kind, name, odds) in enumerate(prices)
        ],
    }


def _line(number: int, line: Line) -> Json:
    row = _row(number, (("5001", "Over", line.over), ("5002", "Under", line.under)))
    for price in row["prices"]:
        price["handicap"] = line.goals
    # The row's own handicap counts quarter goals: it is not the line.
    return {**row, "handicap": int(4 * float(line.goals)), "specifier": {"total": line.goals}}


def _result(board: Board) -> Iterable[tuple[str, str, int]]:
    return zip(("3744", "3745", "3746"), ("1", "X", "2"), board.result, strict=True)


def _both(board: Board) -> Iterable[tuple[str, str, int]]:
    return zip(("3796", "3797"), ("Yes", "No"), board.both_score, strict=True)


def _double(board: Board) -> Iterable[tuple[str, str, int]]:
    home_draw, home_away, draw_away = board.double_chance
    return (("4694", "1X", home_draw), ("4695", "X2", draw_away), ("4696", "12", home_away))


def _as_v3(event: Json) -> Json:
    for market in event["markets"]:
        for row in market["row"]:
            total = row.pop("specifier", {}).get("total")
            row["handicap"] = row.get("handicap")
            row["formattedHandicap"] = total
            row["prices"] = [_price_as_v3(price) for price in row["prices"]]
    counts = {name: int(event[name]) for name in ("totalMarketCount", "version")}
    return {**event, **counts, "score": None, "neutralVenue": event["name"].endswith(" (n)")}


def _price_as_v3(price: Json) -> Json:
    old = {**price, "price": price["odds"], "probability": "b2JmdXNjYXRlZA=="}
    del old["odds"]
    return {**old, "handicap": price.get("handicap"), "suspended": price.get("suspended", False)}
