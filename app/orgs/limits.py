"""Limits of an organisation: the defaults from the settings, and its own overrides. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from app.core.config import Config


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
    def of(cls, defaults: "Config", own: Mapping[str, Any]) -> Self:
        """Return the defaults, replaced by the organisation's own limits where it has them."""
        return cls(
            **{
                name: kind(own.get(name, getattr(defaults, f"org_{name}")))
                for name, kind in cls.__annotations__.items()
            }
        )

    def fault(self, name: str, wanted: float) -> str | None:
        """If `wanted` exceeds the limit, return a sentence that says so and how to raise it."""
        limit = float(getattr(self, name))
        if wanted <= limit:
            return None
        return (
            f"{wanted:g} is over the limit {name} = {limit:g}"
            f" (setting ORG_{name.removeprefix('org_').upper()}, or for one organisation"
            f" `rollcall org limit NAME {name} {wanted:g}`)"
        )


MAX_MINUTES = 7 * 24 * 60  # the longest timeout of a schedule
LIMIT_NAMES = tuple(field.name for field in fields(OrgLimits))
