"""Failures of a source's partitions: as they are recorded, and summed up in one line."""

from collections.abc import Callable, Sequence
from typing import Any

from app.core.enums import FailureKind
from app.core.errors import Failure
from app.fetch.urls import MAX_SHOWN_LENGTH
from app.store.runs.progress import SourceProgress

_LOCAL_FAILURES = (FailureKind.OVER_LIMIT.value, FailureKind.LOCAL_NETWORK.value)


def root_failure_kind(kinds: Sequence[str]) -> str:
    """The kind that explains the others: a local failure if there is one, else the first."""
    return next((kind for kind in _LOCAL_FAILURES if kind in kinds), kinds[0])


def as_recorded(failure: Failure, hide: Callable[[str], str]) -> dict[str, Any]:
    """What is recorded of a partition's failure. `hide` removes secrets from a text."""
    return {
        "kind": failure.kind.value,
        "error": hide(str(failure))[:MAX_SHOWN_LENGTH],
        "status": failure.status,
        "url": failure.url and hide(failure.url)[:MAX_SHOWN_LENGTH],
        "attempts": failure.attempts,
    }


def summary(
    row: SourceProgress, failed: Failure | None, hide: Callable[[str], str]
) -> tuple[str | None, str | None]:
    """Kind and message of what failed: the whole source (`failed`) or parts of it; None if none."""
    if failed is not None:
        return failed.kind.value, hide(str(failed))[:MAX_SHOWN_LENGTH]
    if not row.errors:
        return None, None
    kind = root_failure_kind([error["kind"] for error in row.errors.values()])
    part, first = next((p, e) for p, e in row.errors.items() if e["kind"] == kind)
    return first["kind"], f"{len(row.errors)} of {row.partitions} failed; {part}: {first['error']}"
