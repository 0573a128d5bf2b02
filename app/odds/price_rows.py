"""Comparisons and histories of prices as JSON values and CSV lines, for commands and API. Pure."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TextIO

from app.core.csv_cells import csv_cell
from app.odds.comparison import MarketComparison, Match, Quote

CSV_COLUMNS = (
    "match", "kickoff", "country", "competition", "home", "away", "market", "line", "outcome",
    "platform", "price", "active", "stale", "best", "seen_at", "changed_at", "site_margin",
    "best_margin",
)  # fmt: skip


def match_as_json(match: Match) -> dict[str, Any]:
    """Return the match with all prices of each market. Prices are exact, as text."""
    return _match(match) | {
        "platforms": match.platforms,
        "swapped": match.swapped,
        "markets": [_row_as_json(row) for row in match.rows],
    }


def best_as_json(match: Match) -> dict[str, Any]:
    """Return the match with the best current price of each outcome, and their margin."""
    return _match(match) | {
        "markets": [
            {
                "market": row.market,
                "line": _number(row.line),
                "margin": _number(_rounded(row.margin)),
                "outcomes": [
                    {"outcome": pick.outcome, "best": _best(pick.best)} for pick in row.picks
                ],
            }
            for row in match.rows
        ]
    }


def event_as_json(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a match at one site."""
    return {
        "event_id": event["id"],
        "platform": event["platform"],
        "kickoff": event["kickoff"],
        "home": event["home"],
        "away": event["away"],
    }


def move_as_json(move: Mapping[str, Any]) -> dict[str, Any]:
    """Return one change of a price; its price is None if it was withdrawn."""
    return {name: move[name] for name in ("observed_at", "price", "active", "run_id")}


def _match(match: Match) -> dict[str, Any]:
    return {
        "match": match.key,
        "kickoff": match.kickoff.isoformat(),
        "country": match.country,
        "competition": match.competition,
        "home": match.home,
        "away": match.away,
    }


def _best(quote: Quote | None) -> dict[str, Any] | None:
    return quote and {"platform": quote.platform, "price": _number(quote.price)}


def _row_as_json(row: MarketComparison) -> dict[str, Any]:
    return {
        "market": row.market,
        "line": _number(row.line),
        "margins": {
            platform: _number(_rounded(margin)) for platform, margin in row.margins.items()
        },
        "best_margin": _number(_rounded(row.margin)),
        "outcomes": [
            {
                "outcome": pick.outcome,
                "best": _best(pick.best),
                "quotes": [_quote_as_json(quote) for quote in pick.quotes.values()],
            }
            for pick in row.picks
        ],
    }


def _quote_as_json(quote: Quote) -> dict[str, Any]:
    return {
        "platform": quote.platform,
        "price": _number(quote.price),
        "active": quote.active,
        "stale": quote.stale,
        "seen_at": quote.seen_at.isoformat(),
        "changed_at": quote.changed_at.isoformat(),
    }


def _number(value: Decimal | None) -> str | None:
    return None if value is None else str(value)  # exact, as it was parsed


def _rounded(value: Decimal | None) -> Decimal | None:
    return None if value is None else value.quantize(Decimal("0.0001"))


def write_csv(file: TextIO, matches: Sequence[Match]) -> None:
    """Write one line for each price, after the names of the columns."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for match in matches:
        for row in match.rows:
            for line in _csv_lines(match, row):
                writer.writerow([csv_cell(value) for value in line])


def _csv_lines(match: Match, row: MarketComparison) -> Iterator[tuple[Any, ...]]:
    for pick in row.picks:
        for quote in pick.quotes.values():
            yield (
                match.key,
                match.kickoff.isoformat(),
                match.country,
                match.competition,
                match.home,
                match.away,
                row.market,
                row.line,
                pick.outcome,
                quote.platform,
                quote.price,
                quote.active,
                quote.stale,
                quote is pick.best,
                quote.seen_at.isoformat(),
                quote.changed_at.isoformat(),
                _rounded(row.margins.get(quote.platform)),
                _rounded(row.margin),
            )
