"""An organisation's collection: what it chose to collect and when. One transaction for each deed.

Every deed holds the organisation's row, so that its editors come one after the other, and is done
within its own transaction, so that Postgres hides what is not its own.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app import ledger, log
from app.access import Principal
from app.allowance import Allowance
from app.config import Config
from app.errors import Conflicting, NotThere, Outdated, OverLimit, Unsuitable
from app.ledger import Declared, Queued
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store import chosen as kept
from app.store import collection as store
from app.store import presets, runs, schedules, tenancy
from app.store.collection import Edit, Standing
from app.store.db import Connection, Pool
from app.store.registry import Pause

JOB = "collection"
A_DAY = timedelta(days=1)

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """What an organisation has a say in."""

    preset_id: UUID | None = None
    cron_expression: str = "0 6 * * *"
    timezone: str = "UTC"
    enabled: bool = False
    notify: bool = False

    def told(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "preset_id": None if self.preset_id is None else str(self.preset_id),
            "cron_expression": self.cron_expression,
            "timezone": self.timezone,
            "enabled": self.enabled,
            "notify": self.notify,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants something, when, and of which revision they think they are speaking."""

    who: Principal
    now: datetime
    revision: int | None = None


@dataclass(slots=True)
class Deed:
    """What came of it: how the schedule stands, and runs that Redis must be told of."""

    standing: Standing | None
    queued: list[Queued] = field(default_factory=list[Queued])


def chosen(standing: Standing | None) -> Choice:
    """What stands chosen; the defaults if there is no schedule, or no more."""
    if standing is None or standing.retired_at is not None:
        return Choice()
    return Choice(
        preset_id=standing.preset_id,
        cron_expression=standing.spec["cron"],
        timezone=standing.spec["timezone"],
        enabled=standing.enabled,
        notify=standing.notify,
    )


def key_of(org_id: UUID) -> str:
    """The name of an organisation's schedule."""
    return f"collection:{org_id}"


async def look(pool: Pool, who: Principal) -> Standing | None:
    """How the organisation's schedule stands."""
    async with tenancy.org_transaction(pool, who.org_id) as connection:
        return await store.look(connection, who.org_id)


async def edit(pool: Pool, config: Config, asked: Asked, changes: dict[str, Any]) -> Deed:
    """Change what is chosen, all of it or nothing; from `now` on only the new rule counts.

    Raises BadSchedule, Outdated, Unsuitable (a preset that is not there, or too large).
    """
    async with tenancy.org_transaction(pool, asked.who.org_id) as connection:
        allowance, before = await _held(connection, config, asked)
        after = replace(chosen(before), **changes)
        if after == chosen(before):
            return Deed(before)
        schedule = Schedule.cron(
            after.cron_expression, after.timezone, name=key_of(asked.who.org_id)
        )
        after = replace(after, cron_expression=str(schedule.to_spec()["cron"]))
        if after.preset_id != chosen(before).preset_id:
            await _check_preset(connection, asked.who.org_id, after.preset_id, allowance)
        wanted = _declared(config, asked.who.org_id, schedule, after.enabled, allowance)
        queued = await ledger.edit_in(connection, wanted, asked.now)
        await _choose(connection, asked.who.org_id, after)
        return Deed(await _noted(connection, asked, before, _action(before), after.told()), queued)


async def retire(pool: Pool, config: Config, asked: Asked) -> Deed:
    """End the schedule; what it announced is superseded, its past stays. Raises NotThere."""
    async with tenancy.org_transaction(pool, asked.who.org_id) as connection:
        _, before = await _held(connection, config, asked)
        _there(before)
        queued = await ledger.retire_in(connection, key_of(asked.who.org_id), asked.now)
        await store.choose(connection, asked.who.org_id, None, notify=False)
        return Deed(await _noted(connection, asked, before, "retired", None), queued)


async def pause(pool: Pool, config: Config, asked: Asked, note: str) -> Deed:
    """Let the schedule rest from `now` on; its ticks are recorded as paused. Raises NotThere."""
    async with tenancy.org_transaction(pool, asked.who.org_id) as connection:
        _, before = await _held(connection, config, asked)
        _there(before)
        pause_ = Pause(asked.now, asked.who.name, note)
        queued = await ledger.pause_in(connection, key_of(asked.who.org_id), pause_)
        return Deed(await _noted(connection, asked, before, "paused", {"note": note}), queued)


async def resume(pool: Pool, config: Config, asked: Asked, note: str | None) -> Deed:
    """Let a paused schedule go on; does nothing if it is not paused. Raises NotThere."""
    async with tenancy.org_transaction(pool, asked.who.org_id) as connection:
        _, before = await _held(connection, config, asked)
        if _there(before).paused_at is None:
            return Deed(before)
        queued = await ledger.resume_in(connection, key_of(asked.who.org_id), asked.now)
        return Deed(await _noted(connection, asked, before, "resumed", {"note": note}), queued)


async def run(pool: Pool, config: Config, asked: Asked) -> Queued:
    """Queue a run at once, on or off the schedule.

    Raises Conflicting if one is open or nothing is chosen, OverLimit if the day's are used up.
    """
    async with tenancy.org_transaction(pool, asked.who.org_id) as connection:
        allowance, standing = await _held(connection, config, asked)
        if standing is None or standing.retired_at is not None or standing.preset_id is None:
            raise Conflicting("there is nothing to run: choose a preset_id for the schedule first")
        open_ = await schedules.open_runs(connection, standing.id)
        if open_:
            raise Conflicting(f"run {open_[0].run_id} is still open", open_[0].run_id)
        since = asked.now - A_DAY
        had = await kept.runs_since(connection, asked.who.org_id, since)
        allowance.check("runs_per_day", had + 1)
        wanted = runs.Wanted(
            run_id=uuid4(),
            job=JOB,
            params={},
            requested_by=asked.who.name,
            max_attempts=config.max_attempts,
            timeout=allowance.max_minutes * 60,
            schedule_id=standing.id,
            org_id=asked.who.org_id,
        )
        await runs.request(connection, wanted, asked.now)
    _log.info("collection.asked_for", execution_id=str(wanted.run_id), by=asked.who.name)
    return Queued(wanted.run_id, JOB)


async def _held(
    connection: Connection, config: Config, asked: Asked
) -> tuple[Allowance, Standing | None]:
    allowance = Allowance.of(config, await store.hold(connection, asked.who.org_id))
    standing = await store.lock(connection, asked.who.org_id)
    there = 0 if standing is None else standing.revision
    if asked.revision is not None and asked.revision != there:
        raise Outdated(f"the schedule is at revision {there}, not {asked.revision}: read it again")
    return allowance, standing


def _there(standing: Standing | None) -> Standing:
    if standing is None or standing.retired_at is not None:
        raise NotThere("there is no schedule: PATCH /collection/schedule makes one")
    return standing


def _action(before: Standing | None) -> str:
    if before is None:
        return "created"
    return "edited" if before.retired_at is None else "revived"


def _declared(
    config: Config, org_id: UUID, schedule: Schedule, enabled: bool, allowance: Allowance
) -> Declared:
    policies = Policies(
        misfire_grace=timedelta(seconds=config.collection_misfire_grace_seconds),
        jitter=timedelta(seconds=config.collection_jitter_seconds),
        timeout=allowance.max_minutes * 60,
        max_attempts=config.max_attempts,
    )
    return Declared(key_of(org_id), JOB, schedule, policies, enabled, org_id)


async def _check_preset(
    connection: Connection, org_id: UUID, preset_id: UUID | None, allowance: Allowance
) -> None:
    if preset_id is None:
        return
    preset = await presets.one(connection, org_id, preset_id)
    if preset is None:
        raise Unsuitable("preset_id", f"there is no preset {preset_id}; see /collection/presets")
    try:
        allowance.check("max_sources", len(preset.sources))
    except OverLimit as error:
        raise Unsuitable("preset_id", str(error)) from None


async def _choose(connection: Connection, org_id: UUID, after: Choice) -> None:
    try:
        await store.choose(connection, org_id, after.preset_id, notify=after.notify)
    except asyncpg.ForeignKeyViolationError:  # deleted since it was looked at
        raise Unsuitable("preset_id", f"there is no preset {after.preset_id} any more") from None


async def _noted(
    connection: Connection,
    asked: Asked,
    before: Standing | None,
    action: str,
    after: dict[str, Any] | None,
) -> Standing | None:
    gone = before is None or before.retired_at is not None
    told = None if gone else chosen(before).told()
    revision = 1 if before is None else before.revision + 1
    noted = Edit(asked.now, asked.who.name, action, told, after)
    await store.note(connection, asked.who.org_id, noted, revision)
    _log.info("collection.edited", action=action, by=asked.who.name, revision=revision)
    return await store.look(connection, asked.who.org_id)
