"""Encoding of health facts as Redis hashes. A field that cannot be parsed is None."""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from app.core.enums import HealthReason, RunStatus, TickReason
from app.health.facts import CollectionFacts, JobFacts, SystemFacts, WorkerFacts

UNKNOWN_HEARTBEAT = datetime.fromtimestamp(0, UTC)  # if the time cannot be parsed
NETWORK_DOWN = "-"  # in a history: a run during an outage of the worker's network

Encode = Callable[[Any], str | None]
Decode = Callable[[str | None], Any]
EnumType = TypeVar("EnumType", bound=StrEnum)


def instant(text: str | None) -> datetime | None:
    """Parse an instant that has a zone, in UTC; None if it is not one."""
    try:
        read = datetime.fromisoformat(text or "")
        return None if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def count(text: str | None) -> int | None:
    """Parse a count, at least 0; None if it is not a number."""
    try:
        return max(0, int(text or ""))
    except ValueError:
        return None


def _iso(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat()


def _repr(number: float | None) -> str | None:
    return None if number is None else repr(number)


def _seconds(text: str | None) -> float | None:
    read = _number(text)
    return read if read is not None and read > 0 else None


def _number(text: str | None) -> float | None:
    try:
        read = float(text or "")
    except ValueError:
        return None
    return read if math.isfinite(read) else None


def _member(enum: type[EnumType]) -> Decode:
    def read(text: str | None) -> EnumType | None:
        try:
            return enum(text or "")
        except ValueError:
            return None

    return read


_status = _member(RunStatus)


def _joined(history: tuple[RunStatus | None, ...]) -> str | None:
    return ",".join(status or NETWORK_DOWN for status in history) or None


def _history(text: str | None) -> tuple[RunStatus | None, ...]:
    parts = text.split(",") if text else []
    read = [(part, _status(part)) for part in parts]
    return tuple(status for part, status in read if status or part == NETWORK_DOWN)


def _same(text: str | None) -> str | None:
    return text


_INSTANT: tuple[Encode, Decode] = (_iso, instant)
_COUNT: tuple[Encode, Decode] = (_repr, count)
_TEXT: tuple[Encode, Decode] = (_same, _same)
_FIELDS: dict[str, tuple[Encode, Decode]] = {
    "last_run": _INSTANT,
    "last_success": _INSTANT,
    "last_status": (_same, _status),
    "next_run": _INSTANT,
    "interval_seconds": (_repr, _seconds),
    "enabled": (lambda on: "1" if on else "0", lambda text: text != "0"),
    "paused_at": _INSTANT,
    "paused_by": _TEXT,
    "paused_note": _TEXT,
    "running_since": _INSTANT,
    "last_error": _TEXT,
    "consecutive_failures": _COUNT,
    "registered_at": _INSTANT,
    "silent_after": _INSTANT,
    "rested_until": _INSTANT,
    "history": (_joined, _history),
    "failing_since": _INSTANT,
    "skip_streak": _COUNT,
    "skipping_since": _INSTANT,
    "skip_reason": (_same, _member(TickReason)),
    "late_by": (_repr, _number),
    "grace_seconds": (_repr, _number),
    "breach": (_same, _member(HealthReason)),
    "breach_since": _INSTANT,
    "last_new": _INSTANT,
    "ran": _COUNT,
    "due": _COUNT,
    "succeeded": _COUNT,
    "finished": _COUNT,
}
_SYSTEM_FIELDS: dict[str, tuple[Encode, Decode]] = {
    "unaccounted": _COUNT,
    "checked_at": _INSTANT,
    "pending": _COUNT,
    "failing_since": _INSTANT,
    "notifier_error": _TEXT,
}
_STATES = ("healthy", "unhealthy", "not_started", "paused", "overdue", "failing")


def job_values(facts: JobFacts) -> dict[str, str | None]:
    """The hash of a job; None marks a field to delete."""
    values = {name: write(getattr(facts, name)) for name, (write, _) in _FIELDS.items()}
    return {"job": facts.job, **values}


def job_facts(key: str, values: Mapping[str, str]) -> JobFacts:
    """Decode the hash of a job."""
    read = {name: read(values.get(name)) for name, (_, read) in _FIELDS.items()}
    return JobFacts(job=values.get("job") or key, **read)


def worker_values(facts: WorkerFacts) -> dict[str, str | None]:
    """The hash of a worker; None marks a field to delete."""
    return {
        "seen_at": _iso(facts.seen_at),
        "started_at": _iso(facts.started_at),
        "host": facts.host,
        "running": _repr(facts.running),
    }


def worker_facts(values: Mapping[str, str]) -> WorkerFacts:
    """Decode the hash of a worker."""
    return WorkerFacts(
        seen_at=instant(values.get("seen_at")) or UNKNOWN_HEARTBEAT,
        started_at=instant(values.get("started_at")),
        host=values.get("host"),
        running=count(values.get("running")),
    )


def collection_values(facts: CollectionFacts) -> dict[str, str | None]:
    """The hash with the numbers of collections."""
    counts = {name: _repr(getattr(facts, name)) for name in _STATES}
    return {"as_of": _iso(facts.as_of), **counts}


def collection_facts(values: Mapping[str, str]) -> CollectionFacts | None:
    """Decode the hash with the numbers of collections; None if they were not counted."""
    as_of = instant(values.get("as_of"))
    if as_of is None:
        return None
    return CollectionFacts(as_of, **{name: count(values.get(name)) or 0 for name in _STATES})


def system_values(facts: SystemFacts, names: Collection[str]) -> dict[str, str | None]:
    """The named fields of the system hash; None marks a field to delete."""
    return {name: _SYSTEM_FIELDS[name][0](getattr(facts, name)) for name in names}


def system_facts(values: Mapping[str, str]) -> SystemFacts:
    """Decode the system hash."""
    return SystemFacts(
        **{name: read(values.get(name)) for name, (_, read) in _SYSTEM_FIELDS.items()}
    )
