"""AskNews' limits of the account: rates, page sizes, and refusals."""

import math
from collections.abc import Generator
from dataclasses import dataclass

import msgspec

from app.core.errors import Auth, Failure
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.sources.sites import odds
from app.sources.sites.asknews_records import between

INITIAL_LIMITS = HostLimits(rate=1, burst=1, concurrency=1)
FREE_PLAN_LIMITS = HostLimits(rate=0.1, burst=1, concurrency=1)
MAX_LIMITS = HostLimits(rate=50, burst=50, concurrency=4)
RATE_MARGIN = 0.9  # share of the allowed rate that is used, because network delays bunch requests
MAX_REST_SECONDS = 30.0


class _Limits(msgspec.Struct):
    request_rate: float
    request_rate_capacity: float = 1
    request_rate_remaining: float | None = None
    retry_after: float | None = None
    concurrency_limit: float = 1


_limits = msgspec.json.Decoder(_Limits)


@dataclass(slots=True)
class AskNewsLimits:
    """Limits of the account as learnt in this run.

    `size`: page size. `limits`: those of the plan once they are known. `rest`: seconds to wait
    before the next request. `refused`: the failure if the site rejected the key, or the plan is
    used up; every partition then raises it without a request.
    """

    size: int
    limits: HostLimits = INITIAL_LIMITS
    rest: float = 0.0
    refused: Auth | None = None

    def request_limits(self, base_url: str) -> Generator[SourceRequest, RawPage, None]:
        """Request the limits of the plan. Failures are not raised but lower the limits."""
        try:
            raw = yield SourceRequest(f"{base_url}/profiles/me/limits")
            self.limits, self.rest = _limits_of(odds.decode(raw, _limits))
        except Auth as refused:
            self.limits, self.refused = FREE_PLAN_LIMITS, refused
        except Failure:  # without a response, use limits that every plan allows
            self.limits = FREE_PLAN_LIMITS


def _limits_of(wire: _Limits) -> tuple[HostLimits, float]:
    numbers = (wire.request_rate, wire.request_rate_capacity, wire.concurrency_limit)
    if not all(math.isfinite(number) for number in numbers) or wire.request_rate <= 0:
        return FREE_PLAN_LIMITS, 0.0
    burst = wire.request_rate_capacity
    if wire.request_rate_remaining is not None:
        burst = min(burst, wire.request_rate_remaining)  # the account may be shared
    limits = HostLimits(
        rate=min(wire.request_rate * RATE_MARGIN, MAX_LIMITS.rate),
        burst=int(between(1, burst, MAX_LIMITS.burst)),
        concurrency=int(between(1, wire.concurrency_limit, MAX_LIMITS.concurrency)),
    )
    return limits, between(0, wire.retry_after or 0, MAX_REST_SECONDS)
