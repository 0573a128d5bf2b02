"""What an organisation uses of its limits, for its API, the operator's, and the command line."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.core.config import Config
from app.orgs.limits import LIMIT_NAMES, OrgLimits
from app.store import tenancy
from app.store.db import Pool
from app.store.orgs import collection, selections
from app.store.orgs import usage as store

A_DAY = timedelta(days=1)
BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """How much of one limit is used. `used`: None for a limit of one run, preset or attempt."""

    name: str
    limit: float
    used: float | None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """All limits of an organisation with their use, and the months that are still kept."""

    limits: list[LimitUsage]
    months: list[dict[str, Any]]


async def report(pool: Pool, config: Config, org_id: UUID, now: datetime) -> UsageReport:
    """Return the report, read under the organisation's row-level security."""
    async with tenancy.org_transaction(pool, org_id) as connection:
        limits = OrgLimits.of(config, await collection.limits(connection, org_id))
        current = await store.current(connection, org_id)
        runs = await selections.runs_since(connection, org_id, now - A_DAY)
        months = await store.months(connection, org_id)
    used: dict[str, float] = {
        "max_rows": current.rows,
        "max_stored_mb": round(current.bytes / BYTES_PER_MB, 3),
        "max_collections": current.collections,
        "max_recipes": current.recipes,
        "runs_per_day": runs,
    }
    lines = [LimitUsage(name, float(getattr(limits, name)), used.get(name)) for name in LIMIT_NAMES]
    return UsageReport(lines, months)
