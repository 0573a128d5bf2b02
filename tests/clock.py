"""A clock that stands until it is set: time as an argument, for whoever takes a callable."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


@dataclass(slots=True)
class SettableClock:
    """Says `now`, which only the test moves, forwards or backwards."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **duration: float) -> datetime:
        """Let some time pass, said as to `timedelta`; returns the new instant."""
        self.now += timedelta(**duration)
        return self.now
