"""Export queries, and how their rows are streamed: COPY, or a cursor read in batches."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store import db
from app.store.db import Connection

_TEXTS = frozenset({"text", "varchar"})
_CELL = (
    "CASE WHEN {0} <> '' AND strpos(E'=+-@\\t\\r', left({0}, 1)) > 0 THEN chr(39) || {0}"
    " ELSE {0} END AS {0}"
)
Sink = Callable[[bytes], Coroutine[Any, Any, None]]
STREAM_TIMEOUT = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class ExportKind:
    """One exportable dataset and its statement, whose parameters are the bounds of the range."""

    name: str
    query: str


# Export statements have no order, so that the first row is sent at once; bounds may be null.
ODDS = """
SELECT e.platform, e.platform_event_id, e.sportradar_id, e.country, e.competition, e.home, e.away,
       e.kickoff, p.market, p.line, p.outcome, p.price, p.active, p.changed_at,
       greatest(e.seen_at, b.listed_at) AS seen_at, e.withdrawn_at, p.run_id
FROM odds_prices p
JOIN odds_events e ON e.id = p.event_id
LEFT JOIN odds_boards b
  ON b.platform = e.platform AND b.partition = e.partition AND e.absent_since IS NULL
WHERE ($1::timestamptz IS NULL OR p.changed_at >= $1)
  AND ($2::timestamptz IS NULL OR p.changed_at < $2)
"""
# LEFT JOIN: retention may have deleted the event, and its changes are exported nevertheless.
CHANGES = """
SELECT e.platform, e.platform_event_id, e.sportradar_id, c.market, c.line, c.outcome, c.price,
       c.active, c.observed_at, c.run_id
FROM odds_price_changes c LEFT JOIN odds_events e ON e.id = c.event_id
WHERE ($1::timestamptz IS NULL OR c.observed_at >= $1)
  AND ($2::timestamptz IS NULL OR c.observed_at < $2)
"""
# Lists are cast to text, which CSV and Parquet can hold alike.
ARTICLES = """
SELECT a.provider, a.article_id, a.url, a.title, a.summary, a.source, a.domain, a.language,
       a.country, a.published_at, a.sentiment, to_json(a.categories)::text AS categories,
       to_json(a.keywords)::text AS keywords, a.entities::text AS entities,
       (SELECT json_agg(entity ORDER BY entity)::text FROM article_entities n
        WHERE n.article_id = a.id) AS tracked,
       a.first_seen_at, a.updated_at, a.run_id
FROM articles a
WHERE ($1::timestamptz IS NULL OR a.published_at >= $1)
  AND ($2::timestamptz IS NULL OR a.published_at < $2)
"""
# As ARTICLES. `sentiment` is the newest point of the story.
STORIES = """
SELECT s.provider, s.story_uuid, s.topic, s.told_at, to_json(s.categories)::text AS categories,
       to_json(s.keywords)::text AS keywords, s.languages::text AS languages,
       s.countries::text AS countries,
       (SELECT json_agg(entity ORDER BY entity)::text FROM story_entities n
        WHERE n.story_id = s.id) AS tracked,
       (SELECT value FROM story_sentiment v WHERE v.story_id = s.id
        ORDER BY at DESC LIMIT 1) AS sentiment,
       s.first_seen_at, s.updated_at, s.run_id
FROM stories s
WHERE ($1::timestamptz IS NULL OR s.told_at >= $1)
  AND ($2::timestamptz IS NULL OR s.told_at < $2)
"""
# Items of every organisation: the operator's have an empty `organisation`.
ITEMS = """
SELECT o.name AS organisation, i.source, i.key, i.data::text AS data, i.first_seen, i.last_seen,
       i.changed_at, i.missing_since, i.run_id
FROM items i LEFT JOIN organizations o ON o.id = i.org_id
WHERE ($1::timestamptz IS NULL OR i.changed_at >= $1)
  AND ($2::timestamptz IS NULL OR i.changed_at < $2)
"""
# LEFT JOIN: a manual run may have no schedule.
RUNS = """
SELECT r.execution_id, r.job, s.key AS schedule, r.trigger, r.requested_by, r.status, r.attempt,
       r.scheduled_for, r.created_at, r.started_at, r.completed_at, r.duration_seconds, r.worker,
       r.error_type, r.error_message, r.params::text AS params, r.stats::text AS stats
FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE ($1::timestamptz IS NULL OR r.created_at >= $1)
  AND ($2::timestamptz IS NULL OR r.created_at < $2)
"""

EXPORT_KINDS = {
    kind.name: kind
    for kind in (
        ExportKind("odds", ODDS),
        ExportKind("changes", CHANGES),
        ExportKind("articles", ARTICLES),
        ExportKind("stories", STORIES),
        ExportKind("items", ITEMS),
        ExportKind("runs", RUNS),
    )
}


@dataclass(frozen=True, slots=True)
class ExportRange:
    """The time range [since, until); None is unbounded."""

    since: datetime | None = None
    until: datetime | None = None


async def connect(dsn: str) -> Connection:
    """Open a connection for one long stream, without the pool's command timeout."""
    # JIT compilation delays the first row, which matters more here than total time.
    settings = {"application_name": "rollcall export", "timezone": "UTC", "jit": "off"}
    return await db.connect(dsn, settings)


async def copy_csv(connection: Connection, kind: ExportKind, span: ExportRange, sink: Sink) -> int:
    """Stream the rows to `sink` as CSV with a header; returns their number.

    A text that spreadsheets would read as a formula begins with a quote.
    """
    described = await columns(connection, kind)
    cells = (_CELL.format(name) if of in _TEXTS else name for name, of in described)
    tag = await connection.copy_from_query(
        f"SELECT {', '.join(cells)} FROM ({kind.query}) AS exported",  # noqa: S608 - constants
        span.since,
        span.until,
        output=sink,
        format="csv",
        header=True,
        timeout=STREAM_TIMEOUT,
    )
    return int(tag.removeprefix("COPY "))


async def copy_jsonl(
    connection: Connection, kind: ExportKind, span: ExportRange, sink: Sink
) -> int:
    """Stream the rows to `sink` as one JSON object per line; returns their number."""
    tag = await connection.copy_from_query(
        f"SELECT row_to_json(exported) FROM ({kind.query}) AS exported",  # noqa: S608 - a constant
        span.since,
        span.until,
        output=sink,
        format="csv",
        delimiter="\x02",  # like the quote, a byte that JSON text never contains
        quote="\x01",
        timeout=STREAM_TIMEOUT,
    )
    return int(tag.removeprefix("COPY "))


async def batches(
    connection: Connection, kind: ExportKind, span: ExportRange, size: int
) -> AsyncGenerator[Sequence[Any]]:
    """Yield the rows, `size` at a time. Requires a transaction, whose snapshot is read."""
    cursor = await connection.cursor(kind.query, span.since, span.until, timeout=STREAM_TIMEOUT)
    while rows := await cursor.fetch(size, timeout=STREAM_TIMEOUT):
        yield rows


async def columns(connection: Connection, kind: ExportKind) -> list[tuple[str, str]]:
    """Return the columns' names and Postgres types. Requires a transaction."""
    prepared = await connection.prepare(kind.query)
    return [(attribute.name, attribute.type.name) for attribute in prepared.get_attributes()]
