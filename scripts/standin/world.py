"""Generated football data: matches, their sites, and changing prices. Pure, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from math import exp, factorial
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SITES = ("sportybet", "betpawa", "bet9ja")
_MARGIN = {"sportybet": 1.06, "betpawa": 1.055, "bet9ja": 1.07}
_MIN_ODDS, _MAX_ODDS = 102, 50_000
_DAYS = 10

# country, competition, id at SportyBet, id at BetPawa, id at Bet9ja; the first five ids are real.
_LEAGUES = (
    ("England", "Premier League", 17, 11965, 170880),
    ("Spain", "LaLiga", 8, 11966, 180928),
    ("Germany", "Bundesliga", 35, 11967, 180923),
    ("Italy", "Serie A", 23, 11968, 167856),
    ("France", "Ligue 1", 34, 11969, 950503),
    ("England", "Championship", 18, 11970, 170881),
)
_MORE_LEAGUES = (
    ("Nigeria", "NPFL"),
    ("Ghana", "Premier League"),
    ("Kenya", "Premier League"),
    ("South Africa", "Premiership"),
    ("Brazil", "Serie A"),
    ("Brazil", "Serie B"),
    ("Argentina", "Liga Profesional"),
    ("Portugal", "Primeira Liga"),
    ("Netherlands", "Eredivisie"),
    ("Belgium", "First Division A"),
    ("Turkey", "Süper Lig"),
    ("Poland", "Ekstraklasa"),
    ("Sweden", "Allsvenskan"),
    ("Norway", "Eliteserien"),
    ("Denmark", "Superliga"),
    ("Austria", "Bundesliga"),
    ("Switzerland", "Super League"),
    ("China", "Chinese Super League"),
    ("Japan", "J1 League"),
    ("USA", "MLS"),
    ("Mexico", "Liga MX"),
    ("Egypt", "Premier League"),
    ("Morocco", "Botola Pro"),
    ("International", "Club Friendly Games"),
)
_PLACES = (
    "Northbridge",
    "Eastvale",
    "Harbour",
    "Quarry",
    "Millford",
    "São Telmo",
    "Łękawa",
    "Kingsmere",
    "Oakhollow",
    "Redcliff",
    "Västerby",
    "Montclair",
    "Port Adair",
    "Lagoon",
    "Savanna",
    "Ironside",
    "Göldenau",
    "Rio Claro",
    "Stonegate",
    "Whitmoor",
    "Elmstead",
    "Foxborough",
    "Granville",
    "Ashdown",
    "Brightwater",
    "Coldspring",
    "Dunmore",
    "Evermouth",
    "Fairhaven",
    "Glenrock",
    "Highmarsh",
    "Inverlea",
)
_KINDS = ("FC", "United", "City", "Athletic", "Town", "Rovers", "Wanderers", "Sporting")


def roll(*key: object) -> float:
    """Return a number in [0, 1), always the same for the same key."""
    digest = blake2b("\x1f".join(map(str, key)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


def happens(share: float, *key: object) -> bool:
    """Return whether the key is within the share, always the same for the same key."""
    return roll(*key) < share


def pick(things: Sequence[T], *key: object) -> T:
    """Return one of the things, always the same for the same key."""
    return things[int(roll(*key) * len(things))]


@dataclass(frozen=True, slots=True)
class Competition:
    """A league, with its id on each site."""

    country: str
    name: str
    sportybet: int
    betpawa: int
    bet9ja: int
    country_number: int


class Line(NamedTuple):
    """Odds, in hundredths, for more and for fewer goals than `goals`."""

    goals: str
    over: int
    under: int


@dataclass(frozen=True, slots=True)
class Board:
    """Every price of a match at a site, as decimal odds in hundredths (240 is 2.40)."""

    result: tuple[int, int, int]
    both_score: tuple[int, int]
    double_chance: tuple[int, int, int]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """An upcoming match. `number` is its index in the world; `kickoff` is UTC."""

    number: int
    sportradar_id: str
    competition: Competition
    home: str
    away: str
    kickoff: datetime
    goals: tuple[float, float]


@dataclass(frozen=True, slots=True)
class View:
    """The world at one version. `moves[i]` is how often the prices of match i have changed.

    With `partial`, a site leaves out every second event but keeps its totals.
    """

    version: int
    moves: tuple[int, ...]
    partial: bool = False


class World:
    """Matches from a seed, and how often their prices have changed. Only `advance` mutates it.

    `events` is how many matches each site lists; nine in ten of them are listed by all three.
    Kick-offs fall in the ten days from `start` (UTC).
    """

    def __init__(self, seed: int, events: int, start: datetime, move_share: float = 0.01) -> None:
        self.seed = seed
        self.events = events
        self.start = start.astimezone(UTC)
        self.move_share = move_share
        self.competitions = _competitions()
        self.shift = events // 20
        self.matches = tuple(self._match(number) for number in range(events + 2 * self.shift))
        self.view = View(0, (0,) * len(self.matches))

    @cached_property
    def listed(self) -> dict[str, tuple[Match, ...]]:
        """The matches that each site lists, by competition and kick-off."""
        order = sorted(self.matches, key=lambda match: roll(self.seed, "order", match.number))
        return {
            site: tuple(sorted(order[at : at + self.events], key=_board_order))
            for site, at in zip(SITES, (0, self.shift, 2 * self.shift), strict=True)
        }

    def advance(self, share: float | None = None) -> int:
        """Change the prices of a share of the matches, all prices of a match at once.

        Returns the new version. The matches follow from the seed and the version.
        """
        share = self.move_share if share is None else share
        count = min(len(self.matches), max(1, round(share * len(self.matches)))) if share else 0
        version = self.view.version + 1
        moved = sorted(
            range(len(self.matches)), key=lambda number: roll(self.seed, "move", version, number)
        )[:count]
        moves = list(self.view.moves)
        for number in moved:
            moves[number] += 1
        self.view = replace(self.view, version=version, moves=tuple(moves))
        return version

    def lacks_id(self, site: str, match: Match) -> bool:
        """Return whether the site lacks the match's Sportradar id. SportyBet never does."""
        return site != "sportybet" and self.has_oddity(match, 0.01, site, "no id")

    def has_oddity(self, match: Match, share: float, site: str, oddity: str) -> bool:
        """Return whether the match is within the share that has this oddity at the site."""
        return happens(share, self.seed, site, oddity, match.number)

    def board(self, site: str, match: Match, moves: int) -> Board:
        """Return a match's prices at a site after `moves` changes. Each changes every price."""
        board = _priced(match, _MARGIN[site], self._lines(match))
        return _moved(board, moves * 3 % 10)

    def _lines(self, match: Match) -> list[str]:
        halves = pick((5, 6, 6, 6, 7, 7, 7, 7, 7, 7), self.seed, "lines", match.number)
        lines = [f"{goals}.5" for goals in range(halves)]
        if happens(0.08, self.seed, "whole", match.number):
            lines.insert(3, "3")
        return lines

    def _match(self, number: int) -> Match:
        seed = self.seed
        weight = roll(seed, "league", number) ** 1.5
        place = int(weight * len(self.competitions))
        home = int(roll(seed, "home", number) * 20)
        away = (home + 1 + int(roll(seed, "away", number) * 19)) % 20
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        quarters = 4 * 24 + int(roll(seed, "kickoff", number) * 4 * 24 * (_DAYS - 1))
        return Match(
            number=number,
            sportradar_id=str(70_000_001 + number),
            competition=self.competitions[place],
            home=_team(place, home),
            away=_team(place, away),
            kickoff=midnight + timedelta(minutes=15 * quarters),
            goals=(0.8 + 1.6 * roll(seed, "gh", number), 0.6 + 1.3 * roll(seed, "ga", number)),
        )


def site_name(site: str, team: str) -> str:
    """Return a team's name as the site spells it; the sites agree on the place only."""
    if site == "betpawa":
        return team.removesuffix(" FC")
    if site == "bet9ja":
        return team.removesuffix(" FC").replace("United", "Utd").replace("Athletic", "Ath.")
    return team


def _competitions() -> tuple[Competition, ...]:
    more = (
        (country, name, 200 + at, 12_100 + at, 1_414_900 + at)
        for at, (country, name) in enumerate(_MORE_LEAGUES)
    )
    rows = (*_LEAGUES, *more)
    countries = list(dict.fromkeys(row[0] for row in rows))
    return tuple(Competition(*row, countries.index(row[0]) + 1) for row in rows)


def _team(league: int, number: int) -> str:
    place = _PLACES[(league * 5 + number) % len(_PLACES)]
    return f"{place} {_KINDS[(league + number) % len(_KINDS)]}"


def _board_order(match: Match) -> tuple[int, datetime, int]:
    return (match.competition.betpawa, match.kickoff, match.number)


def _priced(match: Match, margin: float, lines: Sequence[str]) -> Board:
    home = [exp(-match.goals[0]) * match.goals[0] ** n / factorial(n) for n in range(9)]
    away = [exp(-match.goals[1]) * match.goals[1] ** n / factorial(n) for n in range(9)]
    draw = sum(h * a for h, a in zip(home, away, strict=True))
    win = sum(h * sum(away[:n]) for n, h in enumerate(home))
    both = (1 - home[0]) * (1 - away[0])
    lose = max(0.0, 1 - win - draw)

    def odds(chance: float) -> int:
        return max(_MIN_ODDS, min(_MAX_ODDS, round(100 / max(chance * margin, 1e-6))))

    return Board(
        result=(odds(win), odds(draw), odds(lose)),
        both_score=(odds(both), odds(1 - both)),
        double_chance=(odds(win + draw), odds(win + lose), odds(draw + lose)),
        lines=tuple(
            Line(goals, odds(over), odds(under))
            for goals in lines
            for over, under in (_over_under(float(goals), sum(match.goals)),)
        ),
    )


def _over_under(line: float, goals: float) -> tuple[float, float]:
    chances = [exp(-goals) * goals**n / factorial(n) for n in range(16)]
    under = sum(chance for n, chance in enumerate(chances) if n < line)
    over = sum(chance for n, chance in enumerate(chances) if n > line)
    return over / (over + under), under / (over + under)


def _moved(board: Board, walk: int) -> Board:
    # One step is at least a hundredth, and a hundredth part of a long price; `walk` is never
    # the same twice running, so a move always shows.
    def up(odds: int) -> int:
        return odds + walk * max(1, odds // 100)

    def down(odds: int) -> int:
        return odds + (9 - walk) * max(1, odds // 100)

    home, draw, away = board.result
    home_draw, home_away, draw_away = board.double_chance
    return Board(
        result=(up(home), down(draw), down(away)),
        both_score=(up(board.both_score[0]), down(board.both_score[1])),
        double_chance=(up(home_draw), down(home_away), down(draw_away)),
        lines=tuple(Line(line.goals, up(line.over), down(line.under)) for line in board.lines),
    )
