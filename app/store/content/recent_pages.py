"""The newest kept pages and stored items of a source."""

from typing import Any

from app.core.messages import Partition, RawPage
from app.store.content import pages
from app.store.db import Pool

# DISTINCT ON: the newest of each page in one statement, not one statement per page.
NEWEST = """
SELECT DISTINCT ON (partition, page) body_hash, status, url, headers, fetched_at, partition, page
FROM raw_pages WHERE source = $1 AND partition IS NOT NULL
ORDER BY partition, page, fetched_at DESC LIMIT $2
"""

# DISTINCT ON: the last entry of each series; an item without a series is its own.
ROWS = """
SELECT DISTINCT ON (coalesce(series, key)) coalesce(series, key) AS key, data FROM items
WHERE source = $1 AND org_id IS NULL ORDER BY coalesce(series, key), id DESC
"""


async def newest_pages(pool: Pool, source: str, limit: int = 50) -> list[RawPage]:
    """Return the newest kept version of each page of a source, at most `limit` pages."""
    found = list[RawPage]()
    for row in await pool.fetch(NEWEST, source, limit):
        body = await pages.load_body(pool, row["body_hash"])
        if body is not None:
            partition = Partition(row["partition"])
            rest = {name: row[name] for name in ("status", "url", "headers", "fetched_at", "page")}
            found.append(RawPage(body=body, partition=partition, **rest))
    return found


async def stored_items(pool: Pool, source: str) -> dict[str, Any]:
    """Return the operator's items of that source, by key; of a series only the last."""
    return {row["key"]: row["data"] for row in await pool.fetch(ROWS, source)}
