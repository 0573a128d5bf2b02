"""Methods of storing a listing: ours and others. Each writes the same prices to the same table.

Only ours and the limit keep the history of changes; the others write the prices alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from app.core.records import OddsEvent
from app.models.odds import OddsPriceRow
from app.store.content import listings, odds
from app.store.content.listings import Listing
from app.store.db import Connection
from app.store.runs import progress
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.progress import Counts
from scripts.bench import odds_board as source

SAMPLE = 1_000  # prices that the ORM has to merge

PRICES = OddsPriceRow.__table__  # pyright: ignore[reportAttributeAccessIssue] - SQLModel's own
KEY = ("event_id", "market", "line", "outcome")
COLUMNS = (*KEY, "price", "active", "changed_at", "run_id")

UPSERT = """
INSERT INTO odds_prices (event_id, market, line, outcome, price, active, changed_at, run_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (event_id, market, line, outcome) DO UPDATE SET
  price = excluded.price, active = excluded.active, changed_at = excluded.changed_at,
  run_id = excluded.run_id
WHERE odds_prices.price <> excluded.price OR odds_prices.active <> excluded.active
"""

# The lower bound for Postgres: the listing is in a table already, nothing is transferred.
LIMIT = """
WITH moved AS (
  INSERT INTO odds_prices (event_id, market, line, outcome, price, active, changed_at, run_id)
  SELECT g.event_id, g.market, g.line, g.outcome, g.price, g.active, g.changed_at, g.run_id
  FROM staged g LEFT JOIN odds_prices p
    ON p.event_id = g.event_id AND p.market = g.market AND p.outcome = g.outcome
   AND p.line IS NOT DISTINCT FROM g.line
  WHERE p.id IS NULL OR p.price <> g.price OR p.active <> g.active
  ON CONFLICT (event_id, market, line, outcome) DO UPDATE SET
    price = excluded.price, active = excluded.active, changed_at = excluded.changed_at,
    run_id = excluded.run_id
  RETURNING event_id, market, line, outcome, price, active, changed_at, run_id
)
INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active, observed_at, run_id)
SELECT * FROM moved
"""


@dataclass
class Way:
    """One contender on its own database. `ids` maps a site's event id to ours."""

    dsn: str
    connection: Connection
    ids: dict[str, int] = field(default_factory=dict)
    claimed: ClaimedRun | None = None
    engine: AsyncEngine | None = None

    async def events(self, events: Sequence[OddsEvent]) -> None:
        """Write the events without prices, for contenders that store prices alone."""
        bare = [_bare(event) for event in events]
        async with self.connection.transaction():
            await odds.write(self.connection, bare, source.START, uuid4())
        rows = await self.connection.fetch("SELECT platform_event_id, id FROM odds_events")
        self.ids = {row[0]: row[1] for row in rows}

    def rows(self, events: Sequence[OddsEvent], now: datetime, run: UUID) -> list[tuple]:
        return [
            (self.ids[e.platform_event_id], p.market.value, p.line, p.outcome.value, p.price,
             p.active, now, run)
            for e in events for p in e.prices
        ]  # fmt: skip


def _bare(event: OddsEvent) -> OddsEvent:
    return OddsEvent(
        event.platform, event.platform_event_id, None, "", "", None, "", "", event.kickoff, ()
    )


Step = Callable[[], Awaitable[int]]


async def ours(way: Way, events: Sequence[OddsEvent], now: datetime) -> Step:
    """Store as a run does: page by page, fenced by the lease epoch, with counters and listing."""
    claimed = await _claimed(way)
    keys = [event.platform_event_id for event in events]

    async def step() -> int:
        row = await progress.begin(way.connection, claimed, source.PLATFORM)
        for page in source.pages(events):
            async with way.connection.transaction():
                written = await odds.write(way.connection, page, now, claimed.run_id)
                counts = Counts(
                    1, len(page), written.prices, written.inserted, written.changed,
                    written.unchanged,
                )  # fmt: skip
                row = _after(row, counts)
                if page[-1] is events[-1]:
                    listing = Listing(source.PLATFORM, "football", keys, keys, now)
                    await listings.record_listing(way.connection, listing, claimed.run_id)
                await progress.write(way.connection, claimed, row, _named(counts))
        return len(events) * source.PRICES

    return step


def _after(row: progress.SourceProgress, counts: Counts) -> progress.SourceProgress:
    return progress.SourceProgress(row.source, counts=row.counts.plus(counts))


def _named(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in progress.COUNT_NAMES}


async def _claimed(way: Way) -> ClaimedRun:
    run_id = uuid4()
    await way.connection.execute(
        "INSERT INTO runs (execution_id, job, trigger, status, attempt, losses, max_attempts,"
        " timeout_seconds, lease_epoch, queued_at)"
        " VALUES ($1, 'bench', 'manual', 'running', 1, 0, 3, 240, 1, now())",
        run_id,
    )
    return ClaimedRun(run_id, "bench", 1, 1, {}, 240, None, None, "manual", source.START, None)


async def core(way: Way, events: Sequence[OddsEvent], now: datetime) -> Step:
    """Store with SQLAlchemy Core: an upsert that skips equal rows, a page at a time."""
    engine = way.engine = way.engine or create_async_engine(_sqlalchemy(way.dsn))
    run = uuid4()
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    statement = insert(PRICES)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=list(KEY),
        set_={name: new[name] for name in COLUMNS if name not in KEY},
        where=or_(PRICES.c.price != new.price, PRICES.c.active != new.active),
    )

    async def step() -> int:
        for page in source.pages(events):
            rows = [dict(zip(COLUMNS, row, strict=True)) for row in way.rows(page, now, run)]
            async with engine.begin() as connection:
                await connection.execute(statement, rows)
        return len(events) * source.PRICES

    return step


async def orm(way: Way, events: Sequence[OddsEvent], now: datetime) -> Step:
    """Store with SQLAlchemy's ORM: look up each row by its key and merge it."""
    engine = way.engine = way.engine or create_async_engine(_sqlalchemy(way.dsn))
    run = uuid4()
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    sample = events[: SAMPLE // source.PRICES]

    async def step() -> int:
        async with AsyncSession(engine) as session:
            for row in way.rows(sample, now, run):
                await _merge(session, dict(zip(COLUMNS, row, strict=True)))
            await session.commit()
        return len(sample) * source.PRICES

    return step


async def _merge(session: AsyncSession, row: dict) -> None:
    keys = [getattr(OddsPriceRow, name).is_not_distinct_from(row[name]) for name in KEY]
    known = await session.scalar(select(OddsPriceRow.id).where(*keys))
    await session.merge(OddsPriceRow(id=known, **row))


async def executemany(way: Way, events: Sequence[OddsEvent], now: datetime) -> Step:
    """Store with the same upsert through asyncpg alone, a page at a time."""
    run = uuid4()

    async def step() -> int:
        for page in source.pages(events):
            async with way.connection.transaction():
                await way.connection.executemany(UPSERT, way.rows(page, now, run))
        return len(events) * source.PRICES

    return step


async def limit(way: Way, events: Sequence[OddsEvent], now: datetime) -> Step:
    """Store from a staged table, in one statement and one transaction."""
    await way.connection.execute(
        "CREATE UNLOGGED TABLE IF NOT EXISTS staged (event_id bigint, market text, line numeric,"
        " outcome text, price numeric, active bool, changed_at timestamptz, run_id uuid)"
    )
    await way.connection.execute("TRUNCATE staged")
    await way.connection.copy_records_to_table("staged", records=way.rows(events, now, uuid4()))
    await way.connection.execute("ANALYZE staged")

    async def step() -> int:
        await way.connection.execute(LIMIT)
        return len(events) * source.PRICES

    return step


def _sqlalchemy(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+asyncpg://", 1)


WAYS = {"ours": ours, "core": core, "orm": orm, "executemany": executemany, "limit": limit}
