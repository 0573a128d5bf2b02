"""Circuit breakers of hosts, and detection of a failure of the local network.

A breaker opens after five hard failures in a row, for 60 s, doubling up to an hour. Hard failures
are: no connection, a timeout, 5xx, and Blocked. Any other response (404, 401, 429, a page that
cannot be parsed) shows that the host works. A request counts once, without its retries, and a good
response to any worker resets the count. When the open time is over, one probe request is sent while
the others wait: a response closes the breaker, a hard failure doubles the open time.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from app.core.errors import Blocked, Failure, HttpStatus, Network, Timeout

FAILURES = 5
FIRST_OPEN_SECONDS = 60.0  # seconds
MAX_OPEN_SECONDS = 3_600.0
REACHABILITY_SECONDS = 15.0  # seconds; longer than a connection may take to fail


def is_hard_failure(failure: Failure) -> bool:
    """Whether `failure` counts against its host."""
    if isinstance(failure, HttpStatus):
        return (failure.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(failure, Network | Timeout | Blocked)


class NetworkReachability:
    """Detects that the local network is down: no recently requested host was reachable.

    At least two hosts are needed: a single one is more likely down itself. `clock` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, bool]] = {}

    def record(self, host: str, *, reached: bool) -> None:
        """Record the end of a request to `host`, with or without a connection."""
        self._seen.pop(host, None)  # keeps the hosts ordered by time
        self._seen[host] = (self._clock(), reached)

    def unreachable_hosts(self) -> list[str]:
        """The unreachable hosts, if no recently requested host was reachable; else empty."""
        since = self._clock() - REACHABILITY_SECONDS
        for host in [host for host, (at, _) in self._seen.items() if at < since]:
            del self._seen[host]
        unreached = [host for host, (_, reached) in self._seen.items() if not reached]
        return unreached if len(unreached) == len(self._seen) > 1 else []
