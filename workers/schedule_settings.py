"""The schedules of the built-in jobs, from settings such as SCRAPE_SCHEDULE and SCRAPE_OVERLAP."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from app.core.config import Config
from app.core.errors import BadConfig, BadSchedule, file_reason
from app.ledger.edit import DeclaredSchedule
from app.scheduling.choices import PolicyChoices
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule

MAX_CALENDAR_BYTES = 2_000_000


def from_settings(prefix: str) -> Callable[[Config, str], Sequence[DeclaredSchedule]]:
    """The schedule of a built-in job by the settings with that prefix, such as SCRAPE_SCHEDULE.

    Declaring it raises BadConfig, which names the settings.
    """

    def declared(config: Config, name: str) -> Sequence[DeclaredSchedule]:
        timezone = _setting(config, prefix, "timezone") or "UTC"
        try:
            schedule = declared_schedule(config, name, prefix)
            choices = PolicyChoices.of_settings(partial(_setting, config, prefix))
            policies = choices.apply(
                default_policies(config), schedule, timezone, calendar_reader(Path())
            )
        except BadSchedule as error:
            raise BadConfig(f"Invalid settings {prefix.upper()}_…: {error}") from None
        return [DeclaredSchedule(name, name, schedule, policies)]

    return declared


def declared_schedule(config: Config, name: str, prefix: str) -> Schedule:
    """The cron expression or the interval of a built-in job. Raises BadSchedule."""
    if expression := _setting(config, prefix, "schedule"):
        timezone = _setting(config, prefix, "timezone") or "UTC"
        return Schedule.cron(expression, timezone, name=name)
    return Schedule.every(_setting(config, prefix, "interval_minutes") * 60, name=name)


def odds_max_age(config: Config) -> timedelta:
    """The age from which a price is stale: two intervals of the odds job, two days with cron."""
    scrapes = declared_schedule(config, "odds", "scrape")
    return 2 * (scrapes.interval or timedelta(days=1))


def default_policies(config: Config) -> Policies:
    """The policies of a schedule for which none are chosen."""
    return Policies(
        misfire_grace=timedelta(seconds=config.misfire_grace_seconds),
        timeout=config.job_timeout_seconds,
        max_attempts=config.max_attempts,
    )


def calendar_reader(folder: Path) -> Callable[[str], str]:
    """A function that returns the text of a calendar file in `folder`. It raises BadSchedule."""

    def read(name: str) -> str:
        path = folder / name
        try:
            if path.stat().st_size > MAX_CALENDAR_BYTES:
                raise BadSchedule(
                    f"Invalid exclude: {name} is larger than {MAX_CALENDAR_BYTES:,} B"
                )
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = file_reason(error)
            raise BadSchedule(f"Invalid exclude: {name} cannot be read: {reason}") from None

    return read


def _setting(config: Config, prefix: str, name: str) -> Any:
    return getattr(config, f"{prefix}_{name}")
