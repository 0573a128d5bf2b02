"""Limits of an organisation: the defaults from the settings, and its own overrides. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

from app.core.errors import OverLimit


class DefaultOrgLimits(Protocol):
    """The settings with the default limits of organisations."""

    @property
    def org_max_sources(self) -> int: ...
    @property
    def org_runs_per_day(self) -> int: ...
    @property
    def org_max_pages(self) -> int: ...
    @property
    def org_max_mb(self) -> float: ...
    @property
    def org_max_minutes(self) -> float: ...
    @property
    def org_max_recipes(self) -> int: ...
    @property
    def org_max_collections(self) -> int: ...
    @property
    def org_max_rows(self) -> int: ...
    @property
    def org_max_stored_mb(self) -> float: ...


@dataclass(frozen=True, slots=True)
class OrgLimits:
    """The limits of one organisation, named like their settings without `ORG_`.

    `max_mb`: megabytes (1,000,000 bytes) per run. `max_minutes`: per attempt.
    `max_pages`: per run. `max_sources`: per preset. `max_rows`, `max_stored_mb`: of all its items.
    """

    max_sources: int
    runs_per_day: int
    max_pages: int
    max_mb: float
    max_minutes: float
    max_recipes: int
    max_collections: int
    max_rows: int
    max_stored_mb: float

    @classmethod
    def of(cls, defaults: DefaultOrgLimits, own: Mapping[str, Any]) -> Self:
        """Return the defaults, replaced by the organisation's own limits where it has them."""
        return cls(
            max_sources=int(own.get("max_sources", defaults.org_max_sources)),
            runs_per_day=int(own.get("runs_per_day", defaults.org_runs_per_day)),
            max_pages=int(own.get("max_pages", defaults.org_max_pages)),
            max_mb=float(own.get("max_mb", defaults.org_max_mb)),
            max_minutes=float(own.get("max_minutes", defaults.org_max_minutes)),
            max_recipes=int(own.get("max_recipes", defaults.org_max_recipes)),
            max_collections=int(own.get("max_collections", defaults.org_max_collections)),
            max_rows=int(own.get("max_rows", defaults.org_max_rows)),
            max_stored_mb=float(own.get("max_stored_mb", defaults.org_max_stored_mb)),
        )

    def check(self, name: str, wanted: float) -> None:
        """Raise OverLimit, which names the limit and how to raise it, if `wanted` exceeds it."""
        limit = float(getattr(self, name))
        if wanted > limit:
            raise OverLimit(
                f"{wanted:g} is over the limit {name} = {limit:g}"
                f" (setting ORG_{name.removeprefix('org_').upper()}, or for one organisation"
                f" `rollcall org limit NAME {name} {wanted:g}`)"
            )


MAX_MINUTES = 7 * 24 * 60  # the longest timeout of a schedule
LIMIT_NAMES = tuple(field.name for field in fields(OrgLimits))
