"""What the operator does with organisations and tokens, for the command line and the API alike."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from app.core.errors import BadSchedule, NotFound, UnknownOrg
from app.ledger import decide
from app.orgs.limits import LIMIT_NAMES, MAX_MINUTES
from app.store.db import Pool
from app.store.orgs import collection, orgs, selections
from app.store.orgs.orgs import Org
from app.store.reports import org_alerts
from app.store.runs import run_rows


async def find(pool: Pool, name_or_id: str | UUID) -> Org:
    """Return an organisation. Raises UnknownOrg for a name and NotFound for an id."""
    if isinstance(name_or_id, UUID):
        found = await orgs.one(pool, name_or_id)
        if found is None:
            raise NotFound(f"there is no organisation {name_or_id}")
        return found
    found = await orgs.by_name(pool, name_or_id)
    if found is None:
        raise UnknownOrg(f"there is no organisation {name_or_id!r}; see `rollcall org list`")
    return found


async def disable(pool: Pool, found: Org, now: datetime) -> None:
    """Disable the organisation as of `now` and cancel its open runs."""
    await _decide(pool, found, now)  # earlier ticks are not disabled
    async with pool.acquire() as connection, connection.transaction():
        await orgs.set_disabled(connection, found.id, now)
        open_runs = await selections.open_runs(connection, found.id)
        await run_rows.cancel_open(connection, open_runs, now, by="the organisation is disabled")


async def enable(pool: Pool, found: Org, now: datetime) -> None:
    """Enable the organisation. Its alerts of more than three days ago are not sent any more."""
    await _decide(pool, found, now)  # earlier ticks are disabled
    async with pool.acquire() as connection, connection.transaction():
        await org_alerts.give_up_old(connection, found.id)
        await orgs.set_disabled(connection, found.id, None)


async def set_limits(pool: Pool, found: Org, limits: Mapping[str, float | None]) -> None:
    """Set limits of the organisation, all or none; None is the default of the settings again.

    Raises UnknownOrg for a name that is no limit, and for minutes that no schedule can have.
    """
    unknown = limits.keys() - set(LIMIT_NAMES)
    if unknown:
        raise UnknownOrg(f"{min(unknown)!r} is not one of {', '.join(LIMIT_NAMES)}")
    minutes = limits.get("max_minutes")
    if minutes is not None and not 0 < minutes <= MAX_MINUTES:
        raise UnknownOrg(f"max_minutes must be more than 0 and at most {MAX_MINUTES:,}")
    async with pool.acquire() as connection, connection.transaction():
        for name, value in limits.items():
            await orgs.set_limit(connection, found.id, name, value)


async def revoke(pool: Pool, token_id: UUID, now: datetime) -> None:
    """Revoke a token, which stops working at once. Raises NotFound if there is no valid one."""
    if not await orgs.revoke(pool, token_id, now):
        raise NotFound(f"there is no valid token {token_id}")


async def _decide(pool: Pool, found: Org, now: datetime) -> None:
    for key in await collection.keys(pool, found.id):
        with suppress(BadSchedule):  # it has no ticks that could be decided
            await decide.decide_schedule(pool, key, now)
