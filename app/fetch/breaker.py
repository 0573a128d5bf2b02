"""Circuit breakers of hosts, and detection of a failure of the local network.

A breaker opens after five hard failures in a row, for 60 s, doubling up to an hour. Hard failures
are: no connection, a timeout, 5xx, and Blocked. Any other response (404, 401, 429, a page that
cannot be parsed) shows that the host works. A request counts once, without its retries, and a good
response to any worker resets the count. When the open time is over, one probe request is sent while
the others wait: a response closes the breaker, a hard failure doubles the open time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from app.core.errors import Blocked, Failure, HttpStatus, Network, Timeout

FAILURES = 5
FIRST_OPEN_SECONDS = 60.0  # seconds
MAX_OPEN_SECONDS = 3_600.0
REACHABILITY_SECONDS = 15.0  # seconds; longer than a connection may take to fail
_MAX_HOSTS = 1_000


def is_hard_failure(failure: Failure) -> bool:
    """Whether `failure` counts against its host."""
    if isinstance(failure, HttpStatus):
        return (failure.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(failure, Network | Timeout | Blocked)


@dataclass(slots=True)
class _Host:
    failures: int = 0
    until: float = 0.0
    rest: float = 0.0
    kind: str = ""
    probe: str = ""


class Breakers:
    """The breakers of one process. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def open_for(self, host: str) -> tuple[float, str]:
        """Seconds until the breaker of `host` may close (0: not open), and the failure's kind."""
        state = self._hosts.get(host)
        return (max(state.until - self._clock(), 0.0), state.kind) if state else (0.0, "")

    def has_failures(self, host: str) -> bool:
        """Whether failures of `host` are counted, so that a good response must be recorded."""
        return host in self._hosts

    def allows(self, host: str, token: str) -> bool:
        """Whether a request may be sent after the open time; false while a probe is in flight.

        The first request after the open time becomes the probe, named by its `token`.
        """
        state = self._hosts.get(host)
        if state is None or not state.until:
            return True
        if state.probe:
            return False
        state.probe = token
        return True

    def release_probe(self, host: str, token: str) -> None:
        """Release the probe `token`, which ended without a result, so that another can be sent."""
        state = self._hosts.get(host)
        if state is not None and state.probe == token:
            state.probe = ""

    def record_failure(self, host: str, kind: str, token: str, *, again: bool = False) -> float:
        """Count a hard failure; return the open time in seconds if it opened the breaker, else 0.

        A retry (`again`) is not counted while the breaker is closed.
        """
        self._prune()
        state = self._hosts.setdefault(host, _Host())
        if state.until:
            if state.probe != token:
                return 0.0  # was in flight when the breaker opened
            state.rest, state.probe = min(state.rest * 2, MAX_OPEN_SECONDS), ""
        elif again:
            return 0.0
        else:
            state.failures += 1
            if state.failures < FAILURES:
                return 0.0
            state.rest = FIRST_OPEN_SECONDS
        state.kind, state.until = kind, self._clock() + state.rest
        return state.rest

    def record_response(self, host: str, token: str) -> None:
        """Reset the failures of `host`; with an open breaker, only on the probe's response."""
        state = self._hosts.get(host)
        if state is not None and (not state.until or state.probe == token):
            del self._hosts[host]

    def reset(self, host: str) -> None:
        """Reset the breaker: the failures were not caused by the host."""
        self._hosts.pop(host, None)

    def _prune(self) -> None:
        if len(self._hosts) > _MAX_HOSTS:
            before = self._clock() - MAX_OPEN_SECONDS
            for host in [host for host, state in self._hosts.items() if state.until < before]:
                del self._hosts[host]


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
