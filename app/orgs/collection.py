"""Operations on an organisation's collections: read, edit, retire, pause, resume, request a run.

Each operation is one transaction. It locks the organisation's row, which serialises edits, and
runs under row-level security, which hides the rows of other organisations.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app.core import log
from app.core.collection_keys import DEFAULT_COLLECTION, schedule_key
from app.core.config import Config
from app.core.enums import COLLECTION_TASK
from app.core.errors import BadSchedule, Conflict, InvalidValue, NotFound, OverLimit, StaleEdit
from app.ledger import edit as ledger
from app.ledger import manual_runs
from app.ledger.edit import DeclaredSchedule
from app.ledger.manual_runs import Act
from app.orgs.limits import OrgLimits
from app.scheduling.choices import PolicyChoices
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store import tenancy
from app.store.db import Connection, Pool
from app.store.orgs import collection as store
from app.store.orgs import presets, selections
from app.store.orgs.collection import CollectionEdit, CollectionSchedule
from app.store.runs import run_rows
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import decisions
from app.store.schedules.schedule_versions import SchedulePause

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,59}$"
A_DAY = timedelta(days=1)
MAX_TICKS_PER_DAY = 1_440  # of a schedule, if `runs_per_day` is not higher
POLICY_FIELDS = frozenset(
    {"overlap", "coalesce", "catch_up", "misfire_grace_seconds", "jitter_seconds"}
    | {"timeout_seconds", "max_attempts", "exclude", "start", "end"}
)

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """The settings of a collection that its organisation can change."""

    preset_id: UUID | None = None
    cron_expression: str = "0 6 * * *"
    timezone: str = "UTC"
    enabled: bool = False
    notify: bool = False
    policies: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, as edits record them.

        `policies`: what was chosen, by the names of `POLICY_FIELDS`; the rest are defaults.
        """
        return dict(self.policies) | {
            "preset_id": None if self.preset_id is None else str(self.preset_id),
            "cron_expression": self.cron_expression,
            "timezone": self.timezone,
            "enabled": self.enabled,
            "notify": self.notify,
        }


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """Whose collection, who requests an operation, when, and the revision it is based on.

    `by`: recorded as the author. `revision`: None is any. `collection`: its name. `reason`: of a
    run, with the run that it repeats.
    """

    org_id: UUID
    by: str
    now: datetime
    revision: int | None = None
    collection: str = DEFAULT_COLLECTION
    reason: str = ""
    retry_of: UUID | None = None

    @property
    def key(self) -> str:
        """The key of the collection's schedule."""
        return schedule_key(self.org_id, self.collection)


@dataclass(slots=True)
class CollectionChange:
    """The result of an operation: the schedule afterwards, and the runs to enqueue in Redis."""

    schedule: CollectionSchedule | None
    queued: list[QueuedRun] = field(default_factory=list[QueuedRun])


def settings_of(schedule: CollectionSchedule | None) -> CollectionSettings:
    """Return the settings of a schedule; the defaults if there is none or it is retired."""
    if schedule is None or schedule.retired_at is not None:
        return CollectionSettings()
    return CollectionSettings(
        preset_id=schedule.preset_id,
        cron_expression=schedule.spec["cron"],
        timezone=schedule.spec["timezone"],
        enabled=schedule.enabled,
        notify=schedule.notify,
        policies=schedule.policy_choices,
    )


def next_run_at(schedule: CollectionSchedule) -> datetime | None:
    """Return the next tick that is not excluded; None if there is none."""
    rule = Schedule.from_spec(schedule.spec, stamp=schedule.zone_data)
    return Policies.from_spec(schedule.policies).next_run_from(rule, schedule.next_tick_at)


async def read(
    pool: Pool, org_id: UUID, collection: str = DEFAULT_COLLECTION
) -> CollectionSchedule | None:
    """Return a collection's schedule, retired or not; None if it never had one."""
    async with tenancy.org_transaction(pool, org_id) as connection:
        return await store.read_schedule(connection, org_id, schedule_key(org_id, collection))


async def read_all(pool: Pool, org_id: UUID) -> list[CollectionSchedule]:
    """Return the schedules of all collections that are not retired, the default one first."""
    async with tenancy.org_transaction(pool, org_id) as connection:
        found = await store.read_schedules(connection, org_id)
    return [schedule for schedule in found if schedule.retired_at is None]


async def edit(
    pool: Pool, config: Config, request: CollectionRequest, changes: dict[str, Any]
) -> CollectionChange:
    """Change settings, all of them or none; ticks after `now` follow the new schedule version.

    Raises BadSchedule, StaleEdit, and InvalidValue for a preset that is unknown or too large.
    """
    async with tenancy.org_transaction(pool, request.org_id) as connection:
        limits, before = await _locked(connection, config, request)
        after = _changed(settings_of(before), changes)
        if after == settings_of(before):
            return CollectionChange(before)
        if before is None or before.retired_at is not None:
            await _check_count(connection, request.org_id, limits)
        schedule = Schedule.cron(after.cron_expression, after.timezone, name=request.key)
        after = replace(after, cron_expression=str(schedule.to_spec()["cron"]))
        if after.preset_id != settings_of(before).preset_id:
            await _check_preset(connection, request.org_id, after.preset_id, limits)
        _check_frequency(schedule, limits)
        declared = _declared(config, request, schedule, after, limits)
        queued = await ledger.edit_in(connection, declared, request.now)
        await _choose(connection, request, after)
        await store.set_choices(connection, (request.org_id, request.key), dict(after.policies))
        recorded = await _record(connection, request, before, _action(before), after.as_json())
        return CollectionChange(recorded, queued)


async def retire(pool: Pool, config: Config, request: CollectionRequest) -> CollectionChange:
    """Retire the schedule; its history is kept. Raises NotFound and StaleEdit.

    The announced next tick is recorded as superseded.
    """
    async with tenancy.org_transaction(pool, request.org_id) as connection:
        _, before = await _locked(connection, config, request)
        _existing(before)
        queued = await ledger.retire_in(connection, request.key, request.now)
        await store.set_preset(connection, (request.org_id, request.key), None, notify=False)
        return CollectionChange(await _record(connection, request, before, "retired", None), queued)


async def pause(
    pool: Pool, config: Config, request: CollectionRequest, note: str, until: datetime | None = None
) -> CollectionChange:
    """Pause the schedule from `now` on, or until then; its ticks are recorded as paused.

    Raises NotFound, StaleEdit, and WrongState if somebody else has paused it.
    """
    async with tenancy.org_transaction(pool, request.org_id) as connection:
        _, before = await _locked(connection, config, request)
        _existing(before)
        pause_ = SchedulePause(request.now, request.by, note, until)
        queued = await ledger.pause_in(connection, request.key, pause_)
        return CollectionChange(
            await _record(connection, request, before, "paused", pause_.as_json()), queued
        )


async def resume(
    pool: Pool, config: Config, request: CollectionRequest, note: str | None
) -> CollectionChange:
    """Resume the schedule; does nothing if it is not paused. Raises NotFound and StaleEdit."""
    async with tenancy.org_transaction(pool, request.org_id) as connection:
        _, before = await _locked(connection, config, request)
        if _existing(before).paused_at is None:
            return CollectionChange(before)
        queued = await ledger.resume_in(connection, request.key, request.now)
        return CollectionChange(
            await _record(connection, request, before, "resumed", {"note": note}), queued
        )


async def request_run(pool: Pool, config: Config, request: CollectionRequest) -> QueuedRun:
    """Queue a run now, also while the schedule is disabled or paused.

    Raises Conflict if a run is open or no preset is chosen, OverLimit if `runs_per_day` runs
    were made in the last 24 hours, and StaleEdit.
    """
    async with tenancy.org_transaction(pool, request.org_id) as connection:
        limits, schedule = await _locked(connection, config, request)
        if schedule is None or schedule.retired_at is not None or schedule.preset_id is None:
            raise Conflict("there is nothing to run: choose a preset_id for the schedule first")
        open_ = (await decisions.open_runs(connection, [schedule.id])).get(schedule.id)
        if open_:
            raise Conflict(f"run {open_[0].run_id} is still open", open_[0].run_id)
        count = await selections.runs_since(connection, request.org_id, request.now - A_DAY)
        if fault := limits.fault("runs_per_day", count + 1):
            raise OverLimit(fault)
        act = Act(request.by, request.now, request.reason)
        run_request = run_rows.RunRequest(
            run_id=uuid4(),
            job=COLLECTION_TASK,
            params={},
            requested_by=manual_runs.author(act, request.retry_of),
            max_attempts=config.max_attempts,
            timeout=limits.max_minutes * 60,
            schedule_id=schedule.id,
            org_id=request.org_id,
        )
        await manual_runs.insert(connection, request.key, run_request, act, request.retry_of)
    _log.info("collection.asked_for", execution_id=str(run_request.run_id), by=request.by)
    return QueuedRun(run_request.run_id, COLLECTION_TASK)


async def _locked(
    connection: Connection, config: Config, request: CollectionRequest
) -> tuple[OrgLimits, CollectionSchedule | None]:
    limits = OrgLimits.of(config, await store.lock_org(connection, request.org_id))
    schedule = await store.lock_schedule(connection, request.org_id, request.key)
    current = 0 if schedule is None else schedule.revision
    if request.revision is not None and request.revision != current:
        raise StaleEdit(
            f"the schedule is at revision {current}, not {request.revision}: read it again"
        )
    return limits, schedule


def _existing(schedule: CollectionSchedule | None) -> CollectionSchedule:
    if schedule is None or schedule.retired_at is not None:
        raise NotFound("there is no schedule: create it with PATCH of the schedule's address")
    return schedule


def _action(before: CollectionSchedule | None) -> str:
    if before is None:
        return "created"
    return "edited" if before.retired_at is None else "revived"


def _changed(before: CollectionSettings, changes: dict[str, Any]) -> CollectionSettings:
    """Apply the changes; a policy that is null gets its default again."""
    chosen = dict(before.policies)
    for name in changes.keys() & POLICY_FIELDS:
        chosen[name] = changes[name]
    policies = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in chosen.items()
        if value is not None
    }
    plain = {name: value for name, value in changes.items() if name not in POLICY_FIELDS}
    return replace(before, **plain, policies=policies)


def _declared(
    config: Config,
    request: CollectionRequest,
    schedule: Schedule,
    settings: CollectionSettings,
    limits: OrgLimits,
) -> DeclaredSchedule:
    defaults = Policies(
        misfire_grace=timedelta(seconds=config.collection_misfire_grace_seconds),
        jitter=timedelta(seconds=config.collection_jitter_seconds),
        timeout=limits.max_minutes * 60,
        max_attempts=config.max_attempts,
    )
    chosen = settings.policies
    if chosen.get("timeout_seconds", 0) > defaults.timeout:
        raise InvalidValue(
            "timeout_seconds", f"is more than the limit of {limits.max_minutes:g} minutes"
        )
    try:
        policies = PolicyChoices.of_settings(chosen.get).apply(
            defaults, schedule, settings.timezone
        )
    except BadSchedule as error:
        raise InvalidValue(_policy_named(str(error)), str(error)) from None
    return DeclaredSchedule(
        request.key, COLLECTION_TASK, schedule, policies, settings.enabled, request.org_id
    )


def _policy_named(message: str) -> str:
    """Return the field that a message about policies names first."""
    plain = {name.removesuffix("_seconds"): name for name in POLICY_FIELDS}
    found = re.search(rf"\b({'|'.join(plain)})(_seconds)?\b", message)
    return "policies" if found is None else plain[found[1]]


async def _check_count(connection: Connection, org_id: UUID, limits: OrgLimits) -> None:
    if fault := limits.fault("max_collections", await store.count(connection, org_id) + 1):
        raise Conflict(fault)


def _check_frequency(schedule: Schedule, limits: OrgLimits) -> None:
    """Refuse a schedule with more ticks on one day than an organisation may have."""
    limit = max(MAX_TICKS_PER_DAY, limits.runs_per_day)
    if schedule.most_per_day > limit:
        raise InvalidValue(
            "cron_expression", f"is due more than {limit:,} times on one day; the limit is that"
        )


async def _check_preset(
    connection: Connection, org_id: UUID, preset_id: UUID | None, limits: OrgLimits
) -> None:
    if preset_id is None:
        return
    preset = await presets.one(connection, org_id, preset_id)
    if preset is None:
        raise InvalidValue("preset_id", f"there is no preset {preset_id}; see /collection/presets")
    if fault := limits.fault("max_sources", len(preset.sources)):
        raise InvalidValue("preset_id", fault)


async def _choose(
    connection: Connection, request: CollectionRequest, after: CollectionSettings
) -> None:
    of = (request.org_id, request.key)
    try:
        await store.set_preset(connection, of, after.preset_id, notify=after.notify)
    except asyncpg.ForeignKeyViolationError:  # deleted since it was read
        raise InvalidValue("preset_id", f"preset {after.preset_id} no longer exists") from None


async def _record(
    connection: Connection,
    request: CollectionRequest,
    before: CollectionSchedule | None,
    action: str,
    after: dict[str, Any] | None,
) -> CollectionSchedule | None:
    active = before is not None and before.retired_at is None
    settings = settings_of(before).as_json() if active else None
    revision = 1 if before is None else before.revision + 1
    edit_ = CollectionEdit(request.now, request.by, action, settings, after)
    await store.record_edit(connection, (request.org_id, request.key), edit_, revision)
    _log.info("collection.edited", action=action, by=request.by, revision=revision)
    return await store.read_schedule(connection, request.org_id, request.key)
