"""The built-in sources read the stand-in web whole, and the sites agree about the matches."""

from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import pytest

from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import OddsEvent
from app.sources.base import ListingEnd, Source
from app.sources.sites.bet9ja import Bet9ja
from app.sources.sites.betpawa import BetPawa
from app.sources.sites.sportybet import SportyBet
from scripts.standin.testing import Standin

T = TypeVar("T")


def fetch(
    client: httpx.Client, request: SourceRequest, part: Partition | None, page: int
) -> RawPage:
    answer = client.request(
        request.method,
        request.url,
        params=list(request.params),
        headers={**request.headers, "accept": request.accept},
        content=request.body,
    )
    assert answer.status_code == 200
    now = datetime.now(UTC)
    return RawPage(answer.content, 200, str(answer.url), dict(answer.headers), now, part, page)


def driven(
    client: httpx.Client, asking: Generator[SourceRequest, RawPage, T], part: Partition | None
) -> tuple[list[RawPage], T]:
    pages: list[RawPage] = []
    try:
        request = next(asking)
        while True:
            pages.append(fetch(client, request, part, len(pages) + 1))
            request = asking.send(pages[-1])
    except StopIteration as end:
        return pages, end.value


def events(client: httpx.Client, source: Source) -> Sequence[OddsEvent]:
    found: list[OddsEvent] = []
    for part in driven(client, source.partitions(), None)[1]:
        pages, end = driven(client, source.pages(part), part)
        records = [record for page in pages for record in source.parse(page)]
        odds = [record for record in records if isinstance(record, OddsEvent)]
        assert len(odds) == len(records), "something was rejected"
        assert isinstance(end, ListingEnd)
        assert end.total in {None, len(odds)}
        found.extend(odds)
    return found


def sources(web: Standin) -> dict[str, Source]:
    return {
        "sportybet": SportyBet(web.sportybet_url),
        "betpawa": BetPawa(web.betpawa_url),
        "betpawa v3": BetPawa(web.betpawa_url, version="v3"),
        "bet9ja": Bet9ja(web.bet9ja_url),
    }


@pytest.mark.parametrize("name", ["sportybet", "betpawa", "betpawa v3", "bet9ja"])
def test_a_source_reads_every_event_of_its_site_and_its_sportradar_id(
    web: Standin, client: httpx.Client, name: str
) -> None:
    site = name.removesuffix(" v3")
    listed = web.world.listed[site]

    found = events(client, sources(web)[name])

    known = {m.sportradar_id for m in listed if not web.world.lacks_id(site, m)}
    without_id = sum(event.sportradar_id is None for event in found)
    kickoffs = {m.sportradar_id: m.kickoff for m in listed}
    assert len({event.platform_event_id for event in found}) == len(found) == 600
    assert {event.sportradar_id for event in found} - {None} == known
    assert without_id == 600 - len(known)
    assert all(e.kickoff == kickoffs[e.sportradar_id] for e in found if e.sportradar_id)


def test_an_event_has_twenty_prices_or_so_at_every_site(web: Standin, client: httpx.Client) -> None:
    found = {name: events(client, source) for name, source in sources(web).items()}

    averages = {name: sum(len(e.prices) for e in them) / 600 for name, them in found.items()}

    assert all(20 <= average <= 29 for average in averages.values()), averages
