"""The cron entries that decide ticks and take over runs: triggers, dispatch and sweep."""

from collections.abc import Iterable

from app.ledger.edit import DeclaredSchedule
from app.queue.cron import ScheduleCron
from app.scheduling.schedule import Schedule
from workers.dispatch import dispatch
from workers.sweep import sweep, sweep_schedule
from workers.trigger import cron_entry_for, resilient_entry

Trigger = tuple[str, Schedule]  # the key of a schedule, and when it is triggered


def triggers_of(declared: Iterable[DeclaredSchedule]) -> list[Trigger]:
    return [(one.key, one.policies.apply_jitter(one.schedule)) for one in declared]


def deciding_entries(triggers: Iterable[Trigger], lease_seconds: float) -> list[ScheduleCron]:
    return [
        *(cron_entry_for(key, schedule) for key, schedule in triggers),
        resilient_entry("dispatch", dispatch, Schedule.every(1)),
        resilient_entry("sweep", sweep, sweep_schedule(lease_seconds)),
    ]
