"""The cron entries that decide ticks and take over runs: triggers, dispatch and sweep."""

from collections.abc import Iterable, Sequence
from typing import Any

from app.ledger.edit import DeclaredSchedule
from app.ledger.remembered import RememberedRows
from app.queue.cron import ScheduleCron
from app.scheduling.schedule import Schedule
from workers.dispatch import DispatchState, dispatch
from workers.sweep import sweep, sweep_schedule
from workers.trigger import cron_entry_for, resilient_entry

Trigger = tuple[str, Schedule]  # the key of a schedule, and when it is triggered


def triggers_of(declared: Iterable[DeclaredSchedule]) -> list[Trigger]:
    return [(one.key, one.policies.apply_jitter(one.schedule)) for one in declared]


def deciding_state(known_jobs: Sequence[str], lease_seconds: float) -> dict[str, Any]:
    """What the entries keep in the `ctx` of their process, from one start to the next."""
    return {
        "known_jobs": known_jobs,
        "lease_seconds": lease_seconds,
        "turn": DispatchState(),
        "deciding": set[str](),
        "remembered": RememberedRows(),
    }


def deciding_entries(triggers: Iterable[Trigger], lease_seconds: float) -> list[ScheduleCron]:
    return [
        *(cron_entry_for(key, schedule) for key, schedule in triggers),
        resilient_entry("dispatch", dispatch, Schedule.every(1)),
        resilient_entry("sweep", sweep, sweep_schedule(lease_seconds)),
    ]
