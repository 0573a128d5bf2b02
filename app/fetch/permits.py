"""Permits for requests, and the interface of the limiters that give them."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from app.core.errors import Failure
from app.core.messages import HostLimits
from app.fetch import limiter_scripts
from app.fetch.retry import MAX_WAIT

SLOT_LEASE = (
    60.0  # seconds; longer than one attempt, so that it ends only the slots of dead workers
)
THROTTLE_STATUSES = frozenset({429, 503})  # statuses that ask a client to slow down


class Admission(Enum):
    """The decision on a request."""

    GO = limiter_scripts.GO
    TOO_LONG = (
        limiter_scripts.TOO_LONG
    )  # the rate or a cool-down requires a wait longer than `patience`
    RESTING = limiter_scripts.RESTING  # the breaker is open
    SPENT = limiter_scripts.SPENT  # a retry, and the hour's retry budget is exhausted
    BUSY = limiter_scripts.BUSY  # no free slot, or a probe is in flight; handled inside the limiter
    CROWDED = limiter_scripts.CROWDED  # the tenant has requested too many hosts in the last hour


@dataclass(slots=True)
class Permit:
    """A permit for one request to a host, `wait` seconds from now, or the refusal of it.

    `queued_seconds`: seconds spent waiting for a slot. `kind`: the kind of failure that opened
    the breaker.
    `has_failures`: failures of the host are counted. `may_retry`: the host has retries left this
    hour. `is_retry`: the request is a retry. `share`: the permit of the tenants' share of the host.
    """

    host: str
    admission: Admission
    wait: float = 0.0
    token: str = ""
    has_failures: bool = False
    may_retry: bool = True
    kind: str = ""
    queued_seconds: float = 0.0
    is_retry: bool = False
    tenant: str = ""
    share: "Permit | None" = None


class Limiter(Protocol):
    """Decides when a request to a host may be sent, and records the results."""

    async def acquire(
        self,
        host: str,
        limits: HostLimits,
        *,
        again: bool = False,
        patience: float = MAX_WAIT,
        tenant: str = "",
        site: HostLimits | None = None,
    ) -> Permit:
        """Wait for a slot and return a permit. `again`: the request is a retry.

        With GO, sleep `wait` seconds before the request, and release the permit after it. Any other
        decision reserves nothing. `patience`: the longest wait to grant, in seconds.
        `tenant`: whose state of the host applies, `owner:credentials`; the operator's if empty.
        `site`: the limits of the built-in site that a tenant requests, of which tenants have a
        share; by default those that the operator's last request to the host had.
        """
        ...

    def release(self, permit: Permit) -> None:
        """Release a permit after its request; record the result first unless it was cancelled."""
        ...

    async def record(self, permit: Permit, failure: Failure | None) -> Failure | None:
        """Record the result of a request; return the failure to raise, or None on success.

        The returned failure is LocalNetwork if the local network is down.
        """
        ...

    async def heartbeat(self, lease: float) -> None:
        """Record a heartbeat; after `lease` seconds without one, this worker's slots are free.

        Raises redis-py's errors. Without heartbeats a slot is held until its own lease ends.
        """
        ...

    async def close(self) -> None:
        """Release all slots still held; call it before Redis is closed."""
        ...
