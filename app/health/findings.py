"""What a diagnostic check finds, and the repairs that are safe to make without asking."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Repair(StrEnum):
    """A repair that loses nothing and can be made again."""

    MIGRATE = "migrate"
    NO_EVICTION = "no_eviction"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `fix`: what to do, if the level is not OK.

    `repair`: what `doctor --fix` does about it.
    """

    subject: str
    level: Level
    message: str
    fix: str | None = None
    repair: Repair | None = None


def ok(what: str, message: str) -> Finding:
    return Finding(what, Level.OK, message)


def warning(what: str, message: str, fix: str, repair: Repair | None = None) -> Finding:
    return Finding(what, Level.WARNING, message, fix, repair)


def fault(what: str, message: str, fix: str, repair: Repair | None = None) -> Finding:
    return Finding(what, Level.FAULT, message, fix, repair)


def faulty_job(message: str) -> Finding:
    """The finding for a job that cannot be loaded; `message` says where, why and what to do."""
    return fault("job", message, "correct it, then restart the workers")
