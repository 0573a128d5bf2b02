"""SportyBet's list moves while its pages are turned, and no match on sale is called withdrawn."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from arq.connections import ArqRedis

from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.fetch.hostile import Visit, serving
from tests.worker_harness import perform, run_row

KICK_OFF = int((datetime.now(UTC) + timedelta(days=2)).timestamp() * 1000)
GONE = """
SELECT platform_event_id, absent_since IS NOT NULL, withdrawn_at IS NOT NULL FROM odds_events
WHERE absent_since IS NOT NULL OR withdrawn_at IS NOT NULL ORDER BY 1
"""
MOVES = "SELECT count(*) FROM odds_event_changes"


def match(number: int) -> dict[str, Any]:
    outcomes = [{"id": pick, "odds": "2.40", "isActive": 1} for pick in ("1", "2", "3")]
    return {
        "eventId": f"sr:match:{number}",
        "estimateStartTime": KICK_OFF,
        "homeTeamName": f"Home {number}",
        "awayTeamName": f"Away {number}",
        "sport": {"category": {"name": "England", "tournament": {"name": "League"}}},
        "markets": [{"id": "1", "status": 0, "outcomes": outcomes}],
    }


@dataclass
class MovingList:
    """Matches, a hundred a page; after the first page the list is the next one of `lists`."""

    lists: list[Sequence[int]] = field(default_factory=list[Sequence[int]])

    async def __call__(self, visit: Visit) -> None:
        page = int(parse_qs(urlsplit(visit.path).query)["pageNum"][0])
        listed = self.lists[0]
        events = [match(number) for number in listed[(page - 1) * 100 : page * 100]]
        data = {"totalNum": len(listed), "tournaments": [{"events": events}]}
        await visit.answer("200 OK", json.dumps({"bizCode": 10000, "data": data}).encode())
        if len(self.lists) > 1:
            self.lists.pop(0)


async def test_matches_that_slip_past_the_pages_are_doubted_and_never_called_withdrawn(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> None:
    whole, after = range(1, 131), [*range(6, 131), *range(131, 136)]
    site = MovingList([whole])
    async with serving(site) as base:
        config = config_for(dsn, redis_url, standin, sportybet_url=f"{base}/factsCenter")
        async with worker_harness.opened(config, redis) as context:

            async def scraped() -> tuple[str, list[tuple[Any, ...]]]:
                run_id = await perform(context, params={"platforms": ["sportybet"]})
                gone = [tuple(row) for row in await context.pool.fetch(GONE)]
                return (await run_row(context.pool, run_id))["status"], gone

            before = await scraped()
            # Five leave and five join between two pages: 101 to 105 are on neither.
            site.lists = [whole, after]
            moved = await scraped()
            site.lists = [after]
            second = await scraped()
            third = await scraped()
            changes = await context.pool.fetchval(MOVES)

    slipped = [(f"sr:match:{number}", True, False) for number in range(101, 106)]
    left = [f"sr:match:{number}" for number in range(1, 6)]
    assert before == ("success", [])
    assert moved == ("success", slipped), "a total that agrees proves nothing"
    assert second == ("success", [(key, True, False) for key in left])
    assert third == ("success", [(key, True, True) for key in left])
    assert changes == 5


async def test_a_list_that_gets_shorter_while_it_is_read_is_not_complete(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> None:
    whole, shorter = range(1, 131), range(6, 131)
    site = MovingList([whole, shorter])
    async with serving(site) as base:
        config = config_for(dsn, redis_url, standin, sportybet_url=f"{base}/factsCenter")
        async with worker_harness.opened(config, redis) as context:
            run_id = await perform(context, params={"platforms": ["sportybet"]})
            row = await run_row(context.pool, run_id)
            gone = await context.pool.fetch(GONE)

    assert (row["status"], row["error_type"]) == ("partial_failure", "incomplete")
    assert "125 records where the site says there are 130" in row["error_message"]
    assert gone == []
