"""An organisation's collection, in one run: the sources of its preset, kept as its own items."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.allowance import Allowance
from app.errors import BadPreset, OrgDisabled, OverLimit, Spent
from app.resources import House
from app.runs import Outcome
from app.store import chosen, tenancy
from app.store.chosen import Chosen
from app.store.db import Connection
from app.store.runs import Claimed
from app.words import COLLECTION, FailureKind
from workers import offers, spine
from workers.budget import Budget
from workers.job import Plan
from workers.offer import Offered

DAY = timedelta(days=1)
_FAULTS_TOLD = 5


async def collection(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Do one run of an organisation's collection."""
    await spine.perform_planned(ctx, COLLECTION, plan, run_id, params)


async def plan(house: House, claimed: Claimed, outcome: Outcome) -> Plan:
    """What this run asks, as its organisation has chosen, and how much of it.

    Its first attempt decides: those after it do the same, whatever was chosen meanwhile.
    Raises BadPreset, OrgDisabled, or Spent where a limit forbids the run.
    """
    org_id = claimed.org_id
    if org_id is None:
        raise BadPreset("the run belongs to no organisation; POST /collection/run asks for one")
    async with tenancy.org_transaction(house.pool, org_id) as connection:
        choice = await _choice(connection, org_id)
        offered = await offers.offered(connection, org_id)
    allowance = Allowance.of(house.config, choice.limits)
    _limit_time(outcome, allowance)
    sources = claimed.params.get("sources")
    if sources is None:
        sources = _sound(choice, offered)
        await _allowed(house, claimed, org_id, allowance)
        _within(allowance, "max_sources", len(sources))
        settled = {"preset": choice.preset, "sources": sources}
        await chosen.settle(house.pool, claimed, settled)
    parts = [await offers.part(offered, house, org_id, one) for one in sources]
    return Plan(parts, Budget(allowance))


async def _choice(connection: Connection, org_id: UUID) -> Chosen:
    choice = await chosen.look(connection, org_id)
    if choice is None or choice.disabled_at is not None:
        raise OrgDisabled("the organisation is disabled")
    return choice


def _sound(choice: Chosen, offered: Mapping[str, Offered]) -> Sequence[dict[str, Any]]:
    if choice.sources is None:
        raise BadPreset("no preset is chosen: PATCH /collection/schedule with a preset_id")
    faults = offers.check(choice.sources, offered)
    if faults:
        told = "; ".join(f"{field}: {what}" for field, what in faults[:_FAULTS_TOLD])
        raise BadPreset(f"preset {choice.preset!r}: {told}")
    return choice.sources


async def _allowed(house: House, claimed: Claimed, org_id: UUID, allowance: Allowance) -> None:
    since = house.clock() - DAY
    before = await chosen.runs_since(house.pool, org_id, since, besides=claimed.run_id)
    _within(allowance, "runs_per_day", before + 1)


def _within(allowance: Allowance, name: str, wanted: float) -> None:
    try:
        allowance.check(name, wanted)
    except OverLimit as error:
        raise Spent(f"{name}: {error}") from error


def _limit_time(outcome: Outcome, allowance: Allowance) -> None:
    minutes = allowance.max_minutes
    outcome.allow(
        minutes * 60,
        FailureKind.OVER_LIMIT.value,
        f"took longer than the limit max_minutes = {minutes:g} (setting ORG_MAX_MINUTES, or for"
        " one organisation `python -m app org limit NAME max_minutes MINUTES`)",
    )
