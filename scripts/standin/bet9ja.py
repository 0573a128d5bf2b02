"""Stand-in for Bet9ja: R/D envelopes, one group per request, odds as strings by key."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from scripts.standin.wire import Reply, Request, json_reply
from scripts.standin.world import Board, Match, View, World, site_name

NAME = "bet9ja"
SOCCER = "1"
_FIRST_ID = 770_000_000
_NOT_ON_OFFER = ("1", "-", "")
Json = dict[str, Any]


class Bet9ja:
    """Serves the paths below `/bet9ja/PalimpsestAjax`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._groups: dict[str, list[Match]] = {}
        for match in world.listed[NAME]:
            self._groups.setdefault(str(match.competition.bet9ja), []).append(match)
        self._by_id = {str(_FIRST_ID + match.number): match for match in world.listed[NAME]}
        self._events: dict[int, tuple[int, bytes]] = {}
        self._routes: dict[str, Callable[[dict[str, str], View], Reply]] = {
            "/PalimpsestAjax/GetSports": self._sports,
            "/PalimpsestAjax/GetEventsInGroupV2": self._group,
            "/PalimpsestAjax/GetEvent": self._event,
        }

    def answer(self, path: str, request: Request, view: View) -> Reply:
        """Answer a request; `path` is the part after the site's prefix."""
        route = self._routes.get(path)
        if route is None:
            return Reply(404, b"<html><body>404</body></html>", "text/html")
        return route(request.params(), view)

    def failed(self) -> Reply:
        """Return the site's error response with HTTP 200."""
        return json_reply({"R": "E"})

    def _sports(self, asked: dict[str, str], view: View) -> Reply:
        del view
        soccer: Json = {"S_DESC": "Soccer", "NUM": len(self._by_id), "SG": self._countries()}
        other: Json = {"S_DESC": "Basketball", "NUM": 0, "SG": {}}
        sports = {SOCCER: soccer, "2": other}
        only = asked.get("SPORTID")
        tree = {number: sport for number, sport in sports.items() if only in {None, "", number}}
        return json_reply({"R": "OK", "D": {"PAL": tree}})

    def _countries(self) -> Json:
        countries: dict[str, Json] = {}
        for number, matches in self._groups.items():
            league = matches[0].competition
            country = countries.setdefault(
                str(11_057 + league.country_number),
                {"SG_DESC": league.country, "NUM": 0, "G": {}},
            )
            country["NUM"] += len(matches)
            country["G"][number] = {
                "G_DESC": league.name,
                "NUM": len(matches),
                "D": _stamp(matches[0]),
            }
        return countries

    def _group(self, asked: dict[str, str], view: View) -> Reply:
        matches = self._groups.get(asked.get("GROUPID", ""))
        if matches is None:
            return self.failed()
        shown = matches[::2] if view.partial else matches
        events = [self._encoded(match, view) for match in shown]
        if matches[0].competition.bet9ja % 7 == 0:
            # Some groups are a dict keyed by index, not a list.
            slots = (b'"%d":%s' % (slot, event) for slot, event in enumerate(events))
            return Reply(200, b'{"R":"OK","D":{"E":{%s}}}' % b",".join(slots))
        return Reply(200, b'{"R":"OK","D":{"E":[%s]}}' % b",".join(events))

    def _event(self, asked: dict[str, str], view: View) -> Reply:
        match = self._by_id.get(asked.get("EVENTID", ""))
        if match is None:
            return self.failed()
        event = self._shaped(match, view.moves[match.number])
        lines = [line.goals for line in self._world.board(NAME, match, 0).lines]
        event["MK"] = [
            {"ID": "S_1X2", "DS": "1X2", "GCAT": 1, "MARKETID": 1, "SGN": "1X2", "SGNK": "1X2"},
            {
                "ID": "S_OU",
                "DS": "Over/Under",
                "GCAT": 2,
                "MARKETID": 2,
                "SGN": "O/U",
                "SGNK": "OU",
            },
        ]
        event["AUX"] = {"S_OU": {goals: float(goals) for goals in lines}}
        event["CATMARKET"], event["TRANS"] = [], {}
        return json_reply({"R": "OK", "D": event})

    def _encoded(self, match: Match, view: View) -> bytes:
        moves = view.moves[match.number]
        known = self._events.get(match.number)
        if known is None or known[0] != moves:
            known = moves, msgspec.json.encode(self._shaped(match, moves))
            self._events[match.number] = known
        return known[1]

    def _shaped(self, match: Match, moves: int) -> Json:
        league = match.competition
        event: Json = {
            "ID": _FIRST_ID + match.number,
            "C": str(4_000 + match.number),
            "EXTID": None if self._world.lacks_id(NAME, match) else match.sportradar_id,
            "DS": f"{site_name(NAME, match.home)} - {site_name(NAME, match.away)}",
            "STARTDATE": _stamp(match),
            "ENDVISIBILITYDATE": _stamp(match),
            "GID": league.bet9ja,
            "GN": league.name,
            "SGID": 11_057 + league.country_number,
            "SG": league.country,
            "SID": 1,
            "S": "Soccer",
            "TYPE": 0,
            "ST": 1,
            "PRV": 1,
            "PL": 0,
            "IS_BOOSTED": False,
            "O": self._odds(match, moves),
        }
        if self._world.has_oddity(match, 0.2, NAME, "utc"):
            event["STARTDATEUTC"] = f"{match.kickoff:%Y-%m-%dT%H:%M:%SZ}"
        return event

    def _odds(self, match: Match, moves: int) -> dict[str, str]:
        board = self._world.board(NAME, match, moves)
        odds = {key: _written(price) for key, price in _keys(board)}
        has_oddity = self._world.has_oddity
        if has_oddity(match, 0.03, NAME, "no draw"):
            odds["S_1X2_X"] = _NOT_ON_OFFER[match.number % 3]
        if has_oddity(match, 0.03, NAME, "one-sided"):
            odds.pop(f"S_OU@{board.lines[-1].goals}_U")
        if has_oddity(match, 0.02, NAME, "ones"):
            odds["S_GGNG_Y"] = odds["S_GGNG_N"] = "1"
        return odds


def _keys(board: Board) -> Iterable[tuple[str, int]]:
    yield from zip(("S_1X2_1", "S_1X2_X", "S_1X2_2"), board.result, strict=True)
    # Look-alikes: one up, two up and first half.
    yield "S_1X21_1", board.result[0] - 1
    yield "S_1X22_1", board.result[0] - 1
    yield "S_1X21T_X", board.result[1] + 40
    for line in board.lines:
        market = "S_OU" if line.goals.endswith(".5") else "S_OUA"
        yield f"{market}@{line.goals}_O", line.over
        yield f"{market}@{line.goals}_U", line.under
    yield from zip(("S_GGNG_Y", "S_GGNG_N"), board.both_score, strict=True)
    yield from zip(("S_DC_1X", "S_DC_12", "S_DC_X2"), board.double_chance, strict=True)


def _written(odds: int) -> str:
    return f"{odds / 100:.2f}".rstrip("0").rstrip(".")


def _stamp(match: Match) -> str:
    return f"{match.kickoff:%Y-%m-%d %H:%M:%S}"
