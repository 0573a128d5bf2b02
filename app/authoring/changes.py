"""Comparison of the rows that two versions of a recipe yield. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Keys removed and added, and the changed columns by key: (before, after).

    `unchanged`: how many rows are unchanged.
    """

    removed: tuple[str, ...]
    added: tuple[str, ...]
    changed: Mapping[str, Mapping[str, tuple[Any, Any]]]
    unchanged: int

    @property
    def is_empty(self) -> bool:
        """Whether no row was added, removed or changed."""
        return not (self.removed or self.added or self.changed)


def compare_rows(before: Rows, after: Rows) -> RowChanges:
    both = [key for key in before if key in after]
    differing = {key: _columns(before[key], after[key]) for key in both}
    changed = {key: columns for key, columns in differing.items() if columns}
    return RowChanges(
        removed=tuple(key for key in before if key not in after),
        added=tuple(key for key in after if key not in before),
        changed=changed,
        unchanged=len(both) - len(changed),
    )


def _columns(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [*before, *(name for name in after if name not in before)]
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
