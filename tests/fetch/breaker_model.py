"""A plain model of a breaker, which the limiter's script must agree with."""

from collections.abc import Callable
from dataclasses import dataclass

from app.fetch.breaker import FAILURES, FIRST_OPEN_SECONDS, MAX_OPEN_SECONDS


@dataclass(slots=True)
class _Host:
    failures: int = 0
    until: float = 0.0
    rest: float = 0.0
    kind: str = ""
    probe: str = ""


class Breakers:
    """The breakers of some hosts. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
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
