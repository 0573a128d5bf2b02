"""The states of a host that a request is counted in, and this worker's queue for each."""

import asyncio
from dataclasses import dataclass, field

from app.core.messages import HostLimits
from app.fetch import limiter_scripts
from app.fetch.permits import Permit

TENANT_LIMITS = HostLimits(rate=5, burst=10, concurrency=8)  # of all tenants, at any other host


@dataclass(frozen=True, slots=True)
class Terms:
    """The parameters of a permit request; requests with equal terms share one call."""

    limits: HostLimits
    again: bool
    patience: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """The state of one host that a request is counted in.

    The operator's (`tenant` empty), one tenant's, or (`share`) what all tenants have in common.
    """

    host: str
    tenant: str = ""
    share: bool = False

    @property
    def key(self) -> str:
        """The key of its hash, which begins the names of its other keys."""
        if self.share:
            return f"{limiter_scripts.limit_key(self.host)}:tenants"
        return limiter_scripts.limit_key(self.host) + (f":of:{self.tenant}" if self.tenant else "")

    @property
    def keys(self) -> list[str]:
        """The keys of ENTER: its own four, those that limit it further, and the retried hosts."""
        other = ""
        if self.share:
            other = limiter_scripts.limit_key(self.host)
        elif self.tenant:
            other = f"rollcall:limit:hosts:{self.tenant.partition(':')[0]}"
        else:
            other = f"{limiter_scripts.limit_key(self.host)}:tenants"
        own = [self.key, f"{self.key}:slots", f"{self.key}:waiting", f"{self.key}:workers"]
        return [*own, other, f"{other}:slots", limiter_scripts.RETRIED_KEY]

    @property
    def name(self) -> str:
        """The host; for a tenant with what tells its credentials, because each has state here."""
        credentials = self.tenant.partition(":")[2]
        return f"{self.host} {credentials}" if credentials else self.host

    @property
    def role(self) -> str:
        return "share" if self.share else "tenant" if self.tenant else "operator"


@dataclass(slots=True)
class BucketQueue:
    """This worker's state of a bucket: pending requests, the listener, slots to release."""

    pending: list[tuple[Terms, asyncio.Future[Permit]]] = field(
        default_factory=list[tuple[Terms, "asyncio.Future[Permit]"]]
    )
    batcher: asyncio.Task[None] | None = None
    listener: asyncio.Task[None] | None = None
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    to_release: list[str] = field(default_factory=list[str])
    timer: asyncio.TimerHandle | None = None
    contended: bool = False

    def idle(self) -> bool:
        return not (self.pending or self.batcher or self.to_release or self.listener)


def tenants_share(site: HostLimits) -> HostLimits:
    share = limiter_scripts.TENANT_SHARE
    burst, concurrency = int(site.burst * share), int(site.concurrency * share)
    return HostLimits(site.rate * share, max(1, burst), max(1, concurrency))
