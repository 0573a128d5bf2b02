"""When a host is left alone: after five hard failures in a row, for a minute, doubling to an hour.

Hard is what says that the host is not well or does not want us: no connection, no answer in time,
5xx, turned away. Whatever else a host answers (404, 401, 429, a page we cannot read) shows that it
lives. A request counts once, not its retries, and any good answer to any worker ends the row. When
the time is over one request goes first, and the others wait for what becomes of it: an answer
closes the breaker, a hard failure doubles the rest. Nothing needs to be reset by hand.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from app.errors import Blocked, Failure, HttpStatus, Network, Timeout

FAILURES = 5
FIRST_REST = 60.0  # seconds
LONGEST_REST = 3_600.0
RECENT = 15.0  # seconds; longer than a connection may take to fail
_HOSTS = 1_000


def hard(failure: Failure) -> bool:
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
    """The breakers of one process. `clock` is in seconds and only moves forward."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def resting(self, host: str) -> tuple[float, str]:
        """Seconds for which `host` is left alone, 0 if it is not, and the kind of failure."""
        known = self._hosts.get(host)
        return (max(known.until - self._clock(), 0.0), known.kind) if known else (0.0, "")

    def worried(self, host: str) -> bool:
        """Whether a good answer of `host` would be news."""
        return host in self._hosts

    def enter(self, host: str, token: str) -> bool:
        """Whether a request may go now, the rest being over; false while another goes first."""
        known = self._hosts.get(host)
        if known is None or not known.until:
            return True
        if known.probe:
            return False
        known.probe = token
        return True

    def let_go(self, host: str, token: str) -> None:
        """The request that went first ended without a verdict: another may."""
        known = self._hosts.get(host)
        if known is not None and known.probe == token:
            known.probe = ""

    def failed(self, host: str, kind: str, token: str, *, again: bool = False) -> float:
        """Count a hard failure; returns the seconds of rest if it opened the breaker, else 0.

        A retry (`again`) says nothing new of a host that is not resting.
        """
        self._forget()
        known = self._hosts.setdefault(host, _Host())
        if known.until:
            if known.probe != token:
                return 0.0  # was under way when the breaker opened
            known.rest, known.probe = min(known.rest * 2, LONGEST_REST), ""
        elif again:
            return 0.0
        else:
            known.failures += 1
            if known.failures < FAILURES:
                return 0.0
            known.rest = FIRST_REST
        known.kind, known.until = kind, self._clock() + known.rest
        return known.rest

    def answered(self, host: str, token: str) -> None:
        """The host lives: the row of failures is over. Of a resting host only the probe counts."""
        known = self._hosts.get(host)
        if known is not None and (not known.until or known.probe == token):
            del self._hosts[host]

    def forgive(self, host: str) -> None:
        """It was not the host's fault."""
        self._hosts.pop(host, None)

    def _forget(self) -> None:
        if len(self._hosts) > _HOSTS:
            before = self._clock() - LONGEST_REST
            for host in [host for host, known in self._hosts.items() if known.until < before]:
                del self._hosts[host]


class Reach:
    """Tells whether it is our own network that is down: when no host of late could be reached.

    It takes two hosts: one alone is more likely down itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, bool]] = {}

    def note(self, host: str, *, reached: bool) -> None:
        """A request to `host` ended, with a connection or without."""
        self._seen.pop(host, None)  # so that the order is that of time
        self._seen[host] = (self._clock(), reached)

    def cut_off(self) -> list[str]:
        """The hosts that could not be reached, if all that were asked of late could not."""
        since = self._clock() - RECENT
        for host in [host for host, (at, _) in self._seen.items() if at < since]:
            del self._seen[host]
        unreached = [host for host, (_, reached) in self._seen.items() if not reached]
        return unreached if len(unreached) == len(self._seen) > 1 else []
