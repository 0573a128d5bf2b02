"""Stand-in for SportyBet: bizCode envelopes, pages split by tournament, odds as strings."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from scripts.standin.wire import Reply, Request, json_reply
from scripts.standin.world import Board, Competition, Match, View, World, site_name

NAME = "sportybet"
SPORT = "sr:sport:1"
_SUSPENDED = 1
_PAGE = 100
_HIGHLIGHTS = 10
_RESULT = (("1", "2", "3"), ("Home", "Draw", "Away"))
_BOTH = (("74", "76"), ("Yes", "No"))
_DOUBLE = (("9", "10", "11"), ("Home or Draw", "Home or Away", "Draw or Away"))
Json = dict[str, Any]


class SportyBet:
    """Serves the paths below `/sportybet/factsCenter`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._matches = world.listed[NAME]
        self._by_id = {f"sr:match:{match.sportradar_id}": match for match in self._matches}
        self._events: dict[tuple[int, str], tuple[int, bytes]] = {}
        self._routes: dict[str, Callable[[Request, View], Reply]] = {
            "GET /factsCenter/pcUpcomingEvents": self._upcoming,
            "POST /factsCenter/pcEvents": self._by_tournament,
            "GET /factsCenter/popularAndSportList": self._sports,
            "GET /factsCenter/event": self._event,
        }

    def answer(self, path: str, request: Request, view: View) -> Reply:
        """Answer a request; `path` is the part after the site's prefix."""
        route = self._routes.get(f"{request.method} {path}")
        if route is None:
            return Reply(404, b"<html><body>404 Not Found</body></html>", "text/html")
        return route(request, view)

    def failed(self) -> Reply:
        """Return the site's error response with HTTP 200."""
        return json_reply({"bizCode": 19999, "message": "system busy", "data": None})

    def _upcoming(self, request: Request, view: View) -> Reply:
        asked = request.params()
        matches = self._wanted(asked)
        size = max(1, min(_PAGE, int(asked.get("pageSize", _PAGE))))
        pages = _pages(matches, size)
        number = int(asked.get("pageNum", "1"))
        page = pages[number - 1] if 0 < number <= len(pages) else []
        if asked.get("option") == "1":
            page = [match for _, them in _by_competition(page) for match in them[:_HIGHLIGHTS]]
        if view.partial:
            page = page[::2]
        if not matches:
            return json_reply({"bizCode": 10000, "message": "0#0"})
        body = b'{"bizCode":10000,"message":"0#0","data":{"totalNum":%d,"tournaments":[%s]}}' % (
            len(matches),
            self._tournaments(page, asked.get("marketId", ""), view),
        )
        return Reply(200, body)

    def _wanted(self, asked: dict[str, str]) -> Sequence[Match]:
        matches: Iterable[Match] = self._matches if asked.get("sportId") == SPORT else ()
        if asked.get("todayGames") == "true":
            matches = [m for m in matches if m.kickoff.date() == self._world.start.date()]
        hours = asked.get("timeline", "")
        if hours:
            until = self._world.start.timestamp() + 3600 * float(hours)
            matches = [m for m in matches if m.kickoff.timestamp() <= until]
        return tuple(matches)

    def _by_tournament(self, request: Request, view: View) -> Reply:
        try:
            wanted = msgspec.json.decode(request.body, type=list[_Wanted])
        except msgspec.DecodeError:
            return self.failed()
        parts = [self._tournaments(self._in(one), one.marketId, view) for one in wanted]
        body = b'{"bizCode":10000,"message":"0#0","data":[%s]}' % b",".join(filter(None, parts))
        return Reply(200, body)

    def _in(self, wanted: "_Wanted") -> list[Match]:
        ids = {name for group in wanted.tournamentId for name in group}
        return [m for m in self._matches if f"sr:tournament:{m.competition.sportybet}" in ids]

    def _sports(self, request: Request, view: View) -> Reply:
        del request, view
        countries: dict[str, Json] = {}
        for league, matches in _by_competition(self._matches):
            category = countries.setdefault(
                league.country, {**_category(league), "tournaments": []}
            )
            category["tournaments"].append({**_tournament(league), "eventSize": len(matches)})
        sport = {
            "id": SPORT,
            "name": "Football",
            "eventSize": len(self._matches),
            "categories": list(countries.values()),
        }
        data = {"popularEvents": [], "sportList": [sport]}
        return json_reply({"bizCode": 10000, "message": "0#0", "data": data})

    def _event(self, request: Request, view: View) -> Reply:
        match = self._by_id.get(request.params().get("eventId", ""))
        if match is None:
            return json_reply({"bizCode": 10000, "message": "0#0", "data": None})
        event = self._encoded(match, "", view)
        return Reply(200, b'{"bizCode":10000,"message":"0#0","data":%s}' % event)

    def _tournaments(self, matches: Iterable[Match], markets: str, view: View) -> bytes:
        return b",".join(
            b'%s,"events":[%s]}'
            % (
                msgspec.json.encode(_enclosing(league))[:-1],
                b",".join(self._encoded(match, markets, view) for match in them),
            )
            for league, them in _by_competition(matches)
        )

    def _encoded(self, match: Match, markets: str, view: View) -> bytes:
        moves = view.moves[match.number]
        known = self._events.get((match.number, markets))
        if known is None or known[0] != moves:
            wanted = set(markets.split(",")) if markets else None
            known = moves, msgspec.json.encode(self._shaped(match, wanted, moves))
            self._events[match.number, markets] = known
        return known[1]

    def _shaped(self, match: Match, wanted: set[str] | None, moves: int) -> Json:
        markets = self._markets(match, moves)
        league, number = match.competition, match.sportradar_id
        odd_source = self._world.has_oddity(match, 0.05, NAME, "source id")
        return {
            "eventId": f"sr:match:{number}",
            "gameId": str(10_000 + match.number),
            "productStatus": "0#0",
            "estimateStartTime": int(match.kickoff.timestamp() * 1000),
            "status": 0,
            "matchStatus": "Not start",
            "homeTeamId": f"sr:competitor:{_team_number(match.home, league)}",
            "homeTeamName": site_name(NAME, match.home),
            "awayTeamId": f"sr:competitor:{_team_number(match.away, league)}",
            "awayTeamName": site_name(NAME, match.away),
            "sport": {
                "id": SPORT,
                "name": "Football",
                "category": {**_category(league), "tournament": _tournament(league)},
            },
            "totalMarketSize": 400 + match.number % 300,
            "bookingStatus": "Booked",
            "topTeam": False,
            "bgEvent": False,
            "banned": False,
            "eventSource": {
                "preMatchSource": {
                    "sourceType": "BET_RADAR",
                    "sourceId": f"1111111{number}" if odd_source else number,
                }
            },
            "markets": [one for one in markets if wanted is None or one["id"] in wanted],
        }

    def _markets(self, match: Match, moves: int) -> list[Json]:
        board = self._world.board(NAME, match, moves)
        result = _market("1", "1X2", _outcomes(*_RESULT, board.result))
        markets = [result, *self._lines(match, board)]
        markets.append(_market("29", "GG/NG", _outcomes(*_BOTH, board.both_score)))
        markets.append(_market("10", "Double Chance", _outcomes(*_DOUBLE, board.double_chance)))
        has_oddity = self._world.has_oddity
        if has_oddity(match, 0.02, NAME, "inactive"):
            result["outcomes"][1]["isActive"] = 0
        if has_oddity(match, 0.01, NAME, "suspended"):
            markets[-1]["status"] = _SUSPENDED
        if has_oddity(match, 0.03, NAME, "stale"):
            old = _outcomes(*_RESULT, [odds + 30 for odds in board.result])
            # The site sends the stale copy now before and now after the live one.
            markets.insert(match.number % 2, _market("1", "1X2", old, status=_SUSPENDED))
        return markets

    def _lines(self, match: Match, board: Board) -> list[Json]:
        lines = [
            _market(
                "18",
                "Over/Under",
                _outcomes(
                    ("12", "13"),
                    (f"Over {line.goals}", f"Under {line.goals}"),
                    (line.over, line.under),
                ),
                specifier=f"total={line.goals}",
            )
            for line in board.lines
        ]
        if self._world.has_oddity(match, 0.03, NAME, "one-sided"):
            lines[-1]["outcomes"].pop()
        return lines


class _Wanted(msgspec.Struct):
    sportId: str  # noqa: N815  # the site's own name
    marketId: str = ""  # noqa: N815
    tournamentId: list[list[str]] = []  # noqa: N815


def _pages(matches: Sequence[Match], size: int) -> list[list[Match]]:
    # A tournament is split only if it is longer than a page.
    pages: list[list[Match]] = []
    for _, them in _by_competition(matches):
        for at in range(0, len(them), size):
            piece = them[at : at + size]
            if pages and len(pages[-1]) + len(piece) <= size:
                pages[-1].extend(piece)
            else:
                pages.append(list(piece))
    return pages


def _by_competition(matches: Iterable[Match]) -> list[tuple[Competition, list[Match]]]:
    groups = groupby(matches, key=lambda match: match.competition)
    return [(league, list(them)) for league, them in groups]


def _tournament(league: Competition) -> Json:
    return {"id": f"sr:tournament:{league.sportybet}", "name": league.name}


def _category(league: Competition) -> Json:
    return {"id": f"sr:category:{league.country_number}", "name": league.country}


def _enclosing(league: Competition) -> Json:
    category = _category(league)
    return {
        **_tournament(league),
        "categoryName": category["name"],
        "categoryId": category["id"],
    }


def _team_number(team: str, league: Competition) -> int:
    return 9_000 + sum(team.encode()) * 31 + league.sportybet


def _market(
    number: str,
    name: str,
    outcomes: list[Json],
    *,
    status: int = 0,
    specifier: str | None = None,
) -> Json:
    market: Json = {"id": number, "product": 3, "desc": name, "name": name, "status": status}
    if specifier is not None:
        market["specifier"] = specifier
    return {
        **market,
        "group": "Main",
        "favourite": 0,
        "sourceType": "BET_RADAR",
        "lastOddsChangeTime": 1_788_530_000_000,
        "banned": False,
        "outcomes": outcomes,
    }


def _outcomes(ids: Sequence[str], names: Sequence[str], odds: Sequence[int]) -> list[Json]:
    return [
        {
            "id": number,
            "odds": f"{price / 100:.2f}",
            "probability": f"{95 / price:.10f}",
            "voidProbability": "0E-10",
            "isActive": 1,
            "desc": name,
        }
        for number, name, price in zip(ids, names, odds, strict=True)
    ]
