"""Compares what the stand-in sites show now, as the sources parse it, with what is stored."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import httpx

from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import OddsEvent
from app.sources.base import Source
from app.store.db import Connection

Result = TypeVar("Result")
Key = tuple[str, ...]
Facts = dict[Key, tuple[object, ...]]

EVENTS = """
SELECT platform, platform_event_id, sportradar_id, country, competition, competition_id,
       home, away, kickoff
FROM odds_events
"""

PRICES = """
SELECT e.platform, e.platform_event_id, p.market, p.line, p.outcome, p.price, p.active
FROM odds_prices p JOIN odds_events e ON e.id = p.event_id
"""

# Changes that changed nothing, and prices that differ from their last change or have none.
BAD_HISTORY = """
WITH changes AS (
  SELECT event_id, market, line, outcome, price, active,
         lag(price) OVER path IS NOT DISTINCT FROM price
           AND lag(active) OVER path IS NOT DISTINCT FROM active AS still,
         lead(id) OVER path IS NULL AS last
  FROM odds_price_changes
  WINDOW path AS (PARTITION BY event_id, market, line, outcome ORDER BY id)
)
SELECT (SELECT count(*) FROM changes WHERE still)
     + (SELECT count(*) FROM odds_prices p LEFT JOIN changes t
          ON t.last AND t.event_id = p.event_id AND t.market = p.market
         AND t.outcome = p.outcome AND t.line IS NOT DISTINCT FROM p.line
        WHERE t.price IS DISTINCT FROM p.price OR t.active IS DISTINCT FROM p.active)
"""


@dataclass(slots=True)
class Difference:
    """Stored events and prices that differ from the sites, and faults in the price history."""

    records: int = 0
    prices: int = 0
    events_differ: int = 0
    prices_differ: int = 0
    history: int = 0
    examples: list[str] = field(default_factory=list[str])

    @property
    def total(self) -> int:
        """The number of all differences."""
        return self.events_differ + self.prices_differ + self.history


async def compare(connection: Connection, sources: Sequence[Source]) -> Difference:
    """Return the differences between the database and what the sites show."""
    events, prices = _read_sites(sources)
    stored_events: Facts = {
        (row[0], row[1]): tuple(row)[2:] for row in await connection.fetch(EVENTS)
    }
    stored_prices: Facts = {
        (row[0], row[1], row[2], _line(row[3]), row[4]): (row[5], row[6])
        for row in await connection.fetch(PRICES)
    }
    found = Difference(len(stored_events), len(stored_prices))
    found.events_differ = _count_differences(events, stored_events, found.examples)
    found.prices_differ = _count_differences(prices, stored_prices, found.examples)
    found.history = await connection.fetchval(BAD_HISTORY)
    return found


def _count_differences(shown: Facts, stored: Facts, examples: list[str]) -> int:
    wrong = [key for key in shown.keys() | stored.keys() if shown.get(key) != stored.get(key)]
    examples += [
        f"{' '.join(key)}: shown {shown.get(key)}, stored {stored.get(key)}" for key in wrong[:3]
    ]
    return len(wrong)


def _read_sites(sources: Sequence[Source]) -> tuple[Facts, Facts]:
    events: Facts = {}
    prices: Facts = {}
    with httpx.Client(trust_env=False, timeout=20) as client:
        for event in (event for source in sources for event in _events(client, source)):
            key = (event.platform, event.platform_event_id)
            events[key] = (
                event.sportradar_id,
                event.country,
                event.competition,
                event.competition_id,
                event.home,
                event.away,
                event.kickoff,
            )
            for price in event.prices:
                path = (price.market.value, _line(price.line), price.outcome.value)
                prices[*key, *path] = (price.price, price.active)
    return events, prices


def _events(client: httpx.Client, source: Source) -> Iterator[OddsEvent]:
    catalogue, parts = _run_generator(client, source.partitions(), None)
    del catalogue
    for part in parts:
        pages, _ = _run_generator(client, source.pages(part), part)
        for raw in pages:
            yield from (r for r in source.parse(raw) if isinstance(r, OddsEvent))


def _run_generator(
    client: httpx.Client,
    requests: Generator[SourceRequest, RawPage, Result],
    part: Partition | None,
) -> tuple[list[RawPage], Result]:
    pages: list[RawPage] = []
    try:
        request = next(requests)
        while True:
            pages.append(_fetch(client, request, part, len(pages) + 1))
            request = requests.send(pages[-1])
    except StopIteration as stop:
        result: Result = stop.value
        return pages, result


def _fetch(
    client: httpx.Client, request: SourceRequest, part: Partition | None, page: int
) -> RawPage:
    response = client.request(
        request.method,
        request.url,
        params=list(request.params) or None,
        headers={"accept": request.accept, **request.headers},
        content=request.body,
    )
    now = datetime.now(UTC)
    headers = dict(response.headers)
    return RawPage(
        response.content, response.status_code, str(response.url), headers, now, part, page
    )


def _line(line: Decimal | None) -> str:
    return "" if line is None else str(line.normalize())
