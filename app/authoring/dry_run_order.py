"""What the process of dry runs reads: its settings, and dry runs; not what makes them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.core import log

if TYPE_CHECKING:
    from app.fetch.authenticated import FetcherOptions
    from app.sources.recipes.source import RecipeSource


@dataclass(frozen=True, slots=True)
class DryRunOrder:
    """A dry run to be made within so many seconds."""

    source: "RecipeSource"
    options: "FetcherOptions"
    seconds: float


@dataclass(frozen=True, slots=True)
class DryRunSettings:
    """The settings of dry runs, and of the process' log."""

    redis: str
    redis_ssl_cert_reqs: Literal["required", "none"]
    contact: str
    guard_allow: tuple[str, ...]
    log_format: log.Format
    log_level: str
