"""Why a price is there or missing at each site, and the run that is the evidence. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.core.enums import Market, MarketOutcome
from app.web.dashboard.formatting import instant

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SiteState:
    """A site's event and price. `run_id`: the run that found this; None if there is none."""

    platform: str
    state: str
    reason: str
    event: Row | None = None
    run_id: UUID | None = None


def site_states(
    events: Sequence[Row],
    rows: Sequence[Row],
    pick: tuple[Market, MarketOutcome, Decimal | None],
    platforms: Sequence[str],
    now: datetime,
    max_age: timedelta,
) -> list[SiteState]:
    """The state of the price `pick` at each site. Prices not seen for `max_age` are stale."""
    prices = {
        row["event_id"]: row for row in rows if (row["market"], row["outcome"], row["line"]) == pick
    }
    seen = {row["event_id"]: (row["seen_at"], row["seen_run_id"]) for row in rows}
    states = [
        _state(event, prices.get(event["id"]), seen[event["id"]], now - max_age) for event in events
    ]
    listed = {event["platform"] for event in events}
    states += [
        SiteState(
            platform,
            "no event",
            "no event of this site has the match's Sportradar id: the site does not offer it,"
            " or its listing has not been read",
        )
        for platform in platforms
        if platform not in listed
    ]
    return sorted(states, key=lambda state: state.platform)


def _state(
    event: Row, price: Row | None, seen: tuple[datetime, UUID], stale: datetime
) -> SiteState:
    seen_at, seen_run = seen
    listed_run = event["listed_run_id"] or event["seen_run_id"]
    if event["withdrawn_at"] is not None:
        at = instant(event["withdrawn_at"])
        found = ("withdrawn", f"gone from complete listings, known since {at} UTC", listed_run)
    elif event["absent_since"] is not None:
        at = instant(event["absent_since"])
        found = ("absent", f"one complete listing lacked the match, {at} UTC", listed_run)
    elif seen_at < stale:
        reason = f"not seen since {instant(seen_at)} UTC: no later run has listed it"
        found = ("stale", reason, seen_run)
    elif price is None:
        reason = "the site lists the match, and has never had this price"
        found = ("not offered", reason, seen_run)
    else:
        found = (*_of_price(price), price["run_id"])
    return SiteState(event["platform"], *found[:2], event, found[2])


def _of_price(price: Row) -> tuple[str, str]:
    changed = instant(price["changed_at"])
    if price["price"] is None:
        return "withdrawn", f"the site took the price away at {changed} UTC"
    if not price["active"]:
        return "suspended", f"suspended by the site since {changed} UTC"
    return "offered", f"{price['price']} since {changed} UTC"
