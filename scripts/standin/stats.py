"""Request statistics of each site: count, concurrency, statuses, user agents."""

from collections import Counter
from typing import Any


class SiteStats:
    """The request counts of one site."""

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self.requests = 0
        self.max_concurrent = now
        self.peak_per_second = 0
        self.statuses: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.user_agents: Counter[str] = Counter()
        self._second = 0
        self._in_second = 0

    def request_started(self, at: float, user_agent: str) -> None:
        """Count a request that arrived at `at` seconds of a monotonic clock."""
        self.requests += 1
        self.now += 1
        self.max_concurrent = max(self.max_concurrent, self.now)
        self.user_agents[user_agent] += 1
        second = int(at)
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        self.peak_per_second = max(self.peak_per_second, self._in_second)

    def request_ended(self) -> None:
        """Count the end of a request: answered, or its client disconnected."""
        self.now -= 1

    def as_json(self) -> dict[str, Any]:
        """Return the counts as /control/stats shows them."""
        return {
            "requests": self.requests,
            "max_concurrent": self.max_concurrent,
            "peak_per_second": self.peak_per_second,
            "statuses": dict(self.statuses),
            "faults": dict(self.faults),
            "user_agents": dict(self.user_agents),
        }
