"""Odds events as sites give them, written as a run does, and read back."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.core.enums import Market, MarketOutcome
from app.core.records import OddsEvent, OddsPrice
from app.store.content import odds
from app.store.content.write_counts import WriteCounts
from app.store.db import Pool
from tests.clock import NOON

RUN = UUID(int=1)
HOME = OddsPrice(Market.MATCH_RESULT, MarketOutcome.HOME, None, Decimal("2.40"))
DRAW = OddsPrice(Market.MATCH_RESULT, MarketOutcome.DRAW, None, Decimal("3.10"))
OVER = OddsPrice(Market.OVER_UNDER, MarketOutcome.OVER, Decimal("2.5"), Decimal("1.90"))


def event(number: int = 1, *prices: OddsPrice) -> OddsEvent:
    return OddsEvent(
        platform="betpawa",
        platform_event_id=str(number),
        sportradar_id=str(70_000_000 + number),
        country="Nigeria",
        competition="NPFL",
        competition_id="12",
        home=f"Home {number}",
        away=f"Away {number}",
        kickoff=NOON + timedelta(days=number % 9),
        prices=prices or (HOME, DRAW, OVER),
    )


async def write(pool: Pool, *page: OddsEvent, minute: int = 0, run: UUID = RUN) -> WriteCounts:
    async with pool.acquire() as connection, connection.transaction():
        return await odds.write(connection, page, NOON + timedelta(minutes=minute), run)


async def rows(pool: Pool, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await pool.fetch(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608 - our own words
