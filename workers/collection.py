"""The job `collection`: one run of an organisation's preset, stored as its own items."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import ConfigDict

from app.context import WorkerContext
from app.core.collection_keys import schedule_key
from app.core.config import Config
from app.core.enums import COLLECTION_TASK, FailureKind
from app.core.errors import BadPreset, BudgetExceeded, OrgDisabled
from app.ledger.edit import DeclaredSchedule
from app.orgs.limits import OrgLimits
from app.runs.attempts import AttemptOutcome
from app.store import tenancy
from app.store.db import Connection
from app.store.orgs import selections
from app.store.orgs.selections import CollectionSelection
from app.store.runs.attempt_rows import ClaimedRun
from workers import source_catalogue
from workers.budget import CollectionBudget
from workers.catalogue_entry import SelectableSource
from workers.job import Params, job
from workers.run import Run

DAY = timedelta(days=1)
_MAX_FAULTS = 5


class CollectionParams(Params):
    """Parameters of a collection's run: `preset` and `sources`, written by its first attempt."""

    model_config = ConfigDict(extra="allow", frozen=True)


def _no_schedules(config: Config, name: str) -> Sequence[DeclaredSchedule]:
    """None: organisations have theirs, each with its own key."""
    del config, name
    return ()


@job(name=COLLECTION_TASK, schedules=_no_schedules, params=CollectionParams)
async def collection(run: Run) -> None:
    """Collect what the run's organisation selected, within its budget.

    The first attempt decides; later attempts use the same sources whatever is selected meanwhile.
    Raises BadPreset, OrgDisabled, or BudgetExceeded if a limit forbids the run.
    """
    context, claimed = run.context, run.claimed
    org_id = claimed.org_id
    if org_id is None:
        raise BadPreset("the run belongs to no organisation; POST /collection/run asks for one")
    async with tenancy.org_transaction(context.pool, org_id) as connection:
        key = claimed.schedule_key or schedule_key(org_id)
        selection = await _selection(connection, org_id, key)
        offered = await source_catalogue.selectable_sources(connection, org_id)
    allowance = OrgLimits.of(context.config, selection.limits)
    _limit_duration(run.outcome, allowance)
    sources = claimed.params.get("sources")
    if sources is None:
        sources = _checked_sources(selection, offered)
        await _check_daily_runs(context, claimed, org_id, allowance)
        _check_limit(allowance, "max_sources", len(sources))
        params = {"preset": selection.preset, "sources": sources}
        await selections.save_params(context.pool, claimed, params)
    parts = [await source_catalogue.plan_source(offered, context, org_id, one) for one in sources]
    await run.collect(parts, budget=CollectionBudget(allowance))


async def _selection(connection: Connection, org_id: UUID, key: str) -> CollectionSelection:
    selection = await selections.read_selection(connection, org_id, key)
    if selection is None or selection.disabled_at is not None:
        raise OrgDisabled("the organisation is disabled")
    return selection


def _checked_sources(
    selection: CollectionSelection, offered: Mapping[str, SelectableSource]
) -> Sequence[dict[str, Any]]:
    if selection.sources is None:
        raise BadPreset("no preset is chosen: PATCH /collection/schedule with a preset_id")
    faults = source_catalogue.check_selection(selection.sources, offered)
    if faults:
        details = "; ".join(f"{field}: {what}" for field, what in faults[:_MAX_FAULTS])
        raise BadPreset(f"preset {selection.preset!r}: {details}")
    return selection.sources


async def _check_daily_runs(
    context: WorkerContext, claimed: ClaimedRun, org_id: UUID, allowance: OrgLimits
) -> None:
    since = context.clock() - DAY
    before = await selections.runs_since(context.pool, org_id, since, before=claimed.run_id)
    _check_limit(allowance, "runs_per_day", before + 1)


def _check_limit(allowance: OrgLimits, name: str, value: float) -> None:
    if fault := allowance.fault(name, value):
        raise BudgetExceeded(f"{name}: {fault}")


def _limit_duration(outcome: AttemptOutcome, allowance: OrgLimits) -> None:
    minutes = allowance.max_minutes
    outcome.limit_duration(
        minutes * 60,
        FailureKind.OVER_LIMIT.value,
        f"took longer than the limit max_minutes = {minutes:g} (setting ORG_MAX_MINUTES, or for"
        " one organisation `rollcall org limit NAME max_minutes MINUTES`)",
    )
