"""What was collected, as a data page may find it: odds, news, items, rejected records, pages."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import zstandard

from app.core.enums import Market, MarketOutcome
from app.core.records import Item, OddsEvent, OddsPrice
from app.store.content import items, odds
from app.store.db import Pool
from tests.dashboard.fixtures import GOOD, Fate, Scene, alive

JOB = "scrape_all_platforms"
HOSTILE = "<script>alert('x')</script> \u05de\u05db\u05d1\u05d9 \u202eevil"
HOME = OddsPrice(Market.MATCH_RESULT, MarketOutcome.HOME, None, Decimal("2.40"))
DRAW = replace(HOME, outcome=MarketOutcome.DRAW, price=Decimal("3.10"))
AWAY = replace(HOME, outcome=MarketOutcome.AWAY, price=Decimal("3.00"))
OVER = OddsPrice(Market.OVER_UNDER, MarketOutcome.OVER, Decimal("2.5"), Decimal("1.90"))
UNDER = replace(OVER, outcome=MarketOutcome.UNDER, price=Decimal("1.85"))

REJECT = """
INSERT INTO rejected_records (execution_id, source, partition, page, record_id, reason, data,
                              created_at)
VALUES ($1, $2, 'all', 1, 'r1', $3, $4, $5)
"""
KEEP_BODY = "INSERT INTO raw_bodies (hash, body, size, used_at) VALUES ($1, $2, $3, now())"
KEEP_PAGE = """
INSERT INTO raw_pages (execution_id, source, partition, page, url, status, headers, fetched_at,
                       body_hash)
VALUES ($1, $2, 'all', 1, 'https://site.example/list?page=1', 200, $3, $4, $5) RETURNING id
"""
RUN_SOURCE = """
INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed, pages,
                         records, inserted, changed, unchanged, rejected, requests, retries, bytes,
                         throttled_ms, duration_seconds, error_kind, error_message)
VALUES ($1, $2, $3, 1, 0, 3, 30, 2, 5, 23, 1, 3, 0, 999, 0, 1.5, $4, $5)
"""
STORY = """
INSERT INTO stories (provider, story_uuid, topic, told_at, categories, keywords, first_seen_at,
                     updated_at, run_id)
VALUES ('asknews', 's1', $1, $2, '{}', '{}', $2, $2, $3) RETURNING id
"""
ARTICLE = """
INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language, country,
                      published_at, sentiment, categories, keywords, entities, first_seen_at,
                      updated_at, run_id)
VALUES ('asknews', $1, $2, $3, 'A summary', 'Paper', 'paper.example', 'en', 'GB', $4, $5, '{}',
        '{}', '{}', $4, $4, $6) RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Collected:
    """What runs brought, of a scene whose job has `runs`, oldest first."""

    pool: Pool
    now: datetime
    runs: Sequence[UUID]

    async def odds(self, event: OddsEvent, ago: timedelta, run: int = -1) -> None:
        """A page with this event, as fetched so long ago by that run."""
        async with self.pool.acquire() as connection, connection.transaction():
            await odds.write(connection, [event], self.now - ago, self.runs[run])

    async def items(self, source: str, found: Sequence[Item], org: UUID | None = None) -> None:
        """A page of items, stored by the last run."""
        async with self.pool.acquire() as connection, connection.transaction():
            await items.write(connection, org, source, found, self.now, self.runs[-1])

    async def rejected(self, reason: str, data: bytes = b"{}", source: str = "bet9ja") -> None:
        """A record of the last run that could not be parsed."""
        await self.pool.execute(REJECT, self.runs[-1], source, reason, data, self.now)

    async def page(self, body: bytes, headers: dict[str, str], source: str = "bet9ja") -> int:
        """A kept page of the last run; its id."""
        digest = hashlib.sha256(body).digest()
        packed = zstandard.ZstdCompressor().compress(body)
        await self.pool.execute(KEEP_BODY, digest, packed, len(body))
        found: int = await self.pool.fetchval(
            KEEP_PAGE, self.runs[-1], source, headers, self.now, digest
        )
        return found

    async def source(self, name: str, run: int = -1, error: str | None = None) -> None:
        """What that run brought of a source."""
        status = "success" if error is None else "failure"
        kind = None if error is None else "http_status"
        await self.pool.execute(RUN_SOURCE, self.runs[run], name, status, kind, error)

    async def story(self, topic: str, sentiment: Sequence[float]) -> int:
        """A story with one value of sentiment for each hour; its id."""
        story_id: int = await self.pool.fetchval(STORY, topic, self.now, self.runs[-1])
        await self.pool.execute(
            "INSERT INTO story_entities (story_id, entity, first_seen_at, run_id)"
            " VALUES ($1, 'Arsenal', $2, $3)",
            story_id,
            self.now,
            self.runs[-1],
        )
        for hours, value in enumerate(reversed(sentiment)):
            await self.pool.execute(
                "INSERT INTO story_sentiment (story_id, at, value, run_id) VALUES ($1, $2, $3, $4)",
                story_id,
                self.now - timedelta(hours=hours),
                value,
                self.runs[-1],
            )
        return story_id

    async def article(
        self, title: str, sentiment: int | None, *, days: float = 0, url: str = "https://a.example/"
    ) -> None:
        """An article published so long ago, found under Arsenal."""
        at = self.now - timedelta(days=days)
        run = self.runs[-1]
        row = await self.pool.fetchval(ARTICLE, title[:60], url, title, at, sentiment, run)
        await self.pool.execute(
            "INSERT INTO article_entities (article_id, entity, first_seen_at, run_id)"
            " VALUES ($1, 'Arsenal', $2, $3)",
            row,
            at,
            run,
        )


async def collected(scene: Scene, fates: Sequence[Fate] = (GOOD, GOOD, GOOD)) -> Collected:
    """A scene whose odds job had these ticks."""
    await alive(scene)
    await scene.job(JOB, fates)
    rows = await scene.pool.fetch("SELECT execution_id FROM runs ORDER BY created_at")
    return Collected(scene.pool, scene.now, [row[0] for row in rows])


def event(now: datetime, platform: str, *prices: OddsPrice, **fields: Any) -> OddsEvent:
    """The match 70000001, which kicks off in a day."""
    known = OddsEvent(
        platform=platform,
        platform_event_id="1",
        sportradar_id="70000001",
        country="Nigeria",
        competition="NPFL",
        competition_id="12",
        home="Home United",
        away="Away City",
        kickoff=now + timedelta(days=1),
        prices=prices or (HOME, DRAW, AWAY, OVER, UNDER),
    )
    return replace(known, **fields)
