"""The limiter of commands that run without Redis."""

import time
from collections.abc import Callable

from app.core.errors import Failure
from app.core.messages import HostLimits
from app.fetch.permits import THROTTLE_STATUSES, Admission, Permit
from app.fetch.retry import MAX_WAIT


class SoloLimiter:
    """The limiter of a command that runs without Redis: it only spaces the requests of a host.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

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
        del tenant, site
        now = self._clock()
        due = max(self._due.get(host, now), now)
        wait = max(due - (limits.burst - 1) / limits.rate - now, 0.0)
        if wait > patience:
            return Permit(host, Admission.TOO_LONG, wait)
        self._due[host] = due + 1 / limits.rate
        return Permit(host, Admission.GO, wait, is_retry=again)

    def release(self, permit: Permit) -> None:
        """See Limiter."""

    async def record(self, permit: Permit, failure: Failure | None) -> Failure | None:
        """See Limiter. A host that asks for a pause gets it."""
        if failure is not None and failure.status in THROTTLE_STATUSES and failure.retry_in:
            until = self._clock() + failure.retry_in
            self._due[permit.host] = max(self._due.get(permit.host, until), until)
        return failure

    async def heartbeat(self, lease: float) -> None:
        """See Limiter."""

    async def close(self) -> None:
        """See Limiter."""
