"""What an organisation may have and do: the settings' limits, or its own. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

from app.errors import OverLimit


class Defaults(Protocol):
    """The settings that limit an organisation."""

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


@dataclass(frozen=True, slots=True)
class Allowance:
    """Limits of one organisation, named as their settings are.

    `max_mb`: of 1,000,000 bytes, in one run. `max_minutes`: of one attempt.
    """

    max_sources: int
    runs_per_day: int
    max_pages: int
    max_mb: float
    max_minutes: float
    max_recipes: int

    @classmethod
    def of(cls, defaults: Defaults, own: Mapping[str, Any]) -> Self:
        """The settings' limits, and where the organisation has one of its own, that."""
        return cls(
            max_sources=int(own.get("max_sources", defaults.org_max_sources)),
            runs_per_day=int(own.get("runs_per_day", defaults.org_runs_per_day)),
            max_pages=int(own.get("max_pages", defaults.org_max_pages)),
            max_mb=float(own.get("max_mb", defaults.org_max_mb)),
            max_minutes=float(own.get("max_minutes", defaults.org_max_minutes)),
            max_recipes=int(own.get("max_recipes", defaults.org_max_recipes)),
        )

    def check(self, name: str, wanted: float) -> None:
        """Raises OverLimit, which names the limit and how it is raised, if `wanted` is over it."""
        most = float(getattr(self, name))
        if wanted > most:
            raise OverLimit(
                f"{wanted:g} is over the limit {name} = {most:g}"
                f" (setting ORG_{name.removeprefix('org_').upper()}, or for one organisation"
                f" `python -m app org limit NAME {name} {wanted:g}`)"
            )


NAMES = tuple(field.name for field in fields(Allowance))
