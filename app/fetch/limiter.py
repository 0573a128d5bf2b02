"""The rate limiter: breaker, retry budget, slots and rate of each host, checked in one call.

One call to Redis precedes each request and none follows it: a free slot is released with the next
request of this worker, or 20 ms later if there is none.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from typing import Any, Protocol, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from app.core.errors import Failure, LocalNetwork
from app.core.log import logger
from app.core.messages import HostLimits
from app.fetch import breaker, limiter_scripts
from app.fetch.breaker import Breakers, NetworkReachability
from app.fetch.limiter_scripts import MICRO
from app.fetch.rates import EASING_FACTOR, MAX_SLOWDOWN, RESPONSES_PER_EASING, Rates
from app.fetch.retry import MAX_WAIT, RetryBudget
from app.fetch.slots import Slots
from app.fetch.transport_errors import is_connection_failure

SLOT_LEASE = (
    60.0  # seconds; longer than one attempt, so that it ends only the slots of dead workers
)
_THROTTLES = frozenset({429, 503})
_RELEASE_DELAY = 0.02  # seconds until a free slot is released without a next request
_BATCH = 100  # requests decided in one call
_LISTEN_TIMEOUT = 1.0  # seconds until a waiting worker checks again without a wake-up
_REDIS_TIMEOUT = 1.0

_log = logger("fetch")


class Admission(Enum):
    """The decision on a request."""

    GO = limiter_scripts.GO
    TOO_LONG = (
        limiter_scripts.TOO_LONG
    )  # the rate or a cool-down requires a wait longer than `patience`
    RESTING = limiter_scripts.RESTING  # the breaker is open
    SPENT = limiter_scripts.SPENT  # a retry, and the hour's retry budget is exhausted
    BUSY = limiter_scripts.BUSY  # no free slot, or a probe is in flight; handled inside the limiter


@dataclass(slots=True)
class Permit:
    """A permit for one request to a host, `wait` seconds from now, or the refusal of it.

    `queued_seconds`: seconds spent waiting for a slot. `kind`: the kind of failure that opened
    the breaker.
    `has_failures`: failures of the host are counted. `may_retry`: the host has retries left this
    hour.
    `in_redis`: granted by Redis. `is_retry`: the request is a retry.
    """

    host: str
    admission: Admission
    wait: float = 0.0
    token: str = ""
    has_failures: bool = False
    may_retry: bool = True
    kind: str = ""
    queued_seconds: float = 0.0
    in_redis: bool = False
    is_retry: bool = False


class Limiter(Protocol):
    """Decides when a request to a host may be sent, and records the results."""

    async def acquire(
        self, host: str, limits: HostLimits, *, again: bool = False, patience: float = MAX_WAIT
    ) -> Permit:
        """Wait for a slot and return a permit. `is_retry`: the request is a retry.

        With GO, sleep `wait` seconds before the request, and release the permit after it. Any other
        decision reserves nothing. `patience`: the longest wait to grant, in seconds.
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


class LocalLimiter:
    """The limiter of one process. `share` returns how many processes share the limits.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, share: Callable[[], int] = lambda: 1
    ) -> None:
        self._share = share
        self._tokens = count()
        self.slots = Slots()
        self.rates = Rates(clock, share)
        self.breakers = Breakers(clock)
        self.budget = RetryBudget(clock)
        self.reach = NetworkReachability(clock)

    async def acquire(
        self, host: str, limits: HostLimits, *, again: bool = False, patience: float = MAX_WAIT
    ) -> Permit:
        """See Limiter."""
        queued = await wait_for_slot(
            self.slots, host, max(limits.concurrency // max(self._share(), 1), 1)
        )
        while True:
            permit = self.decide(host, limits, again=again, patience=patience)
            if permit.admission is not Admission.BUSY:
                break
            await asyncio.sleep(_RELEASE_DELAY)
            queued += _RELEASE_DELAY
        permit.queued_seconds = queued
        if permit.admission is not Admission.GO:
            self.slots.release(host)
        return permit

    def decide(self, host: str, limits: HostLimits, *, again: bool, patience: float) -> Permit:
        """Decide on a request that has a slot; BUSY while a probe is in flight."""
        open_seconds, kind = self.breakers.open_for(host)
        if open_seconds > 0:
            return Permit(host, Admission.RESTING, open_seconds, kind=kind)
        if again and not self.budget.has_retries_left(host):
            return Permit(host, Admission.SPENT)
        token = f"local:{next(self._tokens)}"
        if not self.breakers.allows(host, token):
            return Permit(host, Admission.BUSY)
        wait = self.rates.reserve(host, limits, patience=patience)
        if wait > patience:
            self.breakers.release_probe(host, token)
            return Permit(host, Admission.TOO_LONG, wait)
        self.budget.count(host, again=again)
        return Permit(
            host,
            Admission.GO,
            wait,
            token=token,
            has_failures=self.breakers.has_failures(host),
            may_retry=self.budget.has_retries_left(host),
            is_retry=again,
        )

    def release(self, permit: Permit) -> None:
        """See Limiter."""
        self.breakers.release_probe(permit.host, permit.token)
        self.slots.release(permit.host)

    async def record(self, permit: Permit, failure: Failure | None) -> Failure | None:
        """See Limiter."""
        host, token = permit.host, permit.token
        unreachable_hosts = _unreachable_hosts(self.reach, host, failure)
        for unreachable_host in unreachable_hosts:
            self.breakers.reset(unreachable_host)
        if failure is not None and unreachable_hosts:
            self.breakers.release_probe(host, token)
            return _local_network_failure(failure, unreachable_hosts)
        if failure is not None and breaker.is_hard_failure(failure):
            open_seconds = self.breakers.record_failure(
                host, failure.kind, token, again=permit.is_retry
            )
            _log_opened(host, failure, open_seconds)
        else:
            self.breakers.record_response(host, token)
        self.adjust_rate(host, failure)
        return failure

    async def heartbeat(self, lease: float) -> None:
        """See Limiter."""

    async def close(self) -> None:
        """See Limiter."""

    def adjust_rate(self, host: str, failure: Failure | None) -> None:
        """Adjust the rate of `host`: slower after a 429 or 503, faster after good responses."""
        if failure is None:
            self.rates.record_clean(host)
        elif failure.status in _THROTTLES:
            self.rates.penalise(host, failure.retry_in or 0.0)


@dataclass(frozen=True, slots=True)
class _Terms:
    """The parameters of a permit request; requests with equal terms share one call."""

    limits: HostLimits
    again: bool
    patience: float


@dataclass(slots=True)
class _HostQueue:
    """This worker's state of a host: pending requests, the listener, slots to release."""

    pending: list[tuple[_Terms, asyncio.Future[Permit]]] = field(
        default_factory=list[tuple[_Terms, "asyncio.Future[Permit]"]]
    )
    batcher: asyncio.Task[None] | None = None
    listener: asyncio.Task[None] | None = None
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    to_release: list[str] = field(default_factory=list[str])
    timer: asyncio.TimerHandle | None = None
    contended: bool = False

    def idle(self) -> bool:
        return not (self.pending or self.batcher or self.to_release or self.listener)


class RedisLimiter:
    """The limiter that all workers share. While Redis is unavailable, each uses its share locally.

    `ahead` returns seconds that are added to Redis' time, for drills.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        worker: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._redis = redis
        self._worker = worker or secrets.token_hex(8)
        self._owner_prefix = ""  # prefix of this worker's tokens, set by the first heartbeat
        self._clock = clock
        self._ahead = ahead
        self._workers = 1
        self._local = LocalLimiter(clock, share=lambda: self._workers)
        self._queues: defaultdict[str, _HostQueue] = defaultdict(_HostQueue)
        self._tokens = count()
        self._scripts = {text: redis.register_script(text) for text in _SCRIPTS}
        self._clean: dict[str, int] = {}  # good responses since the last easing; slowed hosts only
        self._redis_down_until: float | None = None
        self._releases: set[asyncio.Task[Any]] = set()

    async def acquire(
        self, host: str, limits: HostLimits, *, again: bool = False, patience: float = MAX_WAIT
    ) -> Permit:
        """See Limiter."""
        queued = await wait_for_slot(self._local.slots, host, self._concurrency(limits))
        go = False
        try:
            permit = await self._enter(host, _Terms(limits, again, patience))
            go = permit.admission is Admission.GO
        finally:
            if not go:
                self._local.slots.release(host)
        permit.queued_seconds += queued
        return permit

    def _concurrency(self, limits: HostLimits) -> int:
        share = 1 if self._redis_down_until is None else max(self._workers, 1)
        return max(limits.concurrency // share, 1)

    async def _enter(self, host: str, terms: _Terms) -> Permit:
        permit = await self._decide(host, terms)
        if permit.admission is not Admission.BUSY:
            return permit
        began = time.monotonic()
        while permit.admission is Admission.BUSY:
            queue = self._queues[host]
            queue.wakeup.clear()
            if queue.listener is None:
                queue.listener = asyncio.create_task(self._listen(host, queue))
            await queue.wakeup.wait()
            permit = await self._decide(host, terms)
        permit.queued_seconds = time.monotonic() - began
        return permit

    async def _listen(self, host: str, queue: _HostQueue) -> None:
        """Wake waiting requests when a slot may be free, or after a timeout."""
        try:
            await self._wait_for_wakeup(host)
        finally:
            queue.listener = None
            queue.wakeup.set()

    async def _wait_for_wakeup(self, host: str) -> None:
        wakeups = f"{_limit_key(host)}:waiting:{self._worker}"
        try:
            async with asyncio.timeout(_LISTEN_TIMEOUT + _REDIS_TIMEOUT):
                await cast("Any", self._redis).blpop([wakeups], timeout=_LISTEN_TIMEOUT)
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(_RELEASE_DELAY)

    async def _decide(self, host: str, terms: _Terms) -> Permit:
        closed = self._local.rates.closed_for(host)
        if closed > terms.patience:
            return Permit(host, Admission.TOO_LONG, closed)
        open_seconds, kind = self._local.breakers.open_for(host)
        if open_seconds > 0:
            return Permit(host, Admission.RESTING, open_seconds, kind=kind)
        queue = self._queues[host]
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        queue.pending.append((terms, future))
        if queue.batcher is None:
            queue.batcher = asyncio.create_task(self._serve_pending(host, queue))
        try:
            permit = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._discard(future.result())
            raise
        permit.wait = max(permit.wait, closed)
        return permit

    async def _serve_pending(self, host: str, queue: _HostQueue) -> None:
        """Request permits for all pending requests in batches; later ones join the next call."""
        served: list[asyncio.Future[Permit]] = []
        try:
            while queue.pending:
                terms = queue.pending[0][0]
                served = [future for asked, future in queue.pending if asked == terms][:_BATCH]
                queue.pending = [one for one in queue.pending if one[1] not in served]
                permits = await self._request_permits(host, terms, len(served))
                for future, permit in zip(served, permits, strict=True):
                    if future.done():
                        self._discard(permit)
                    else:
                        future.set_result(permit)
        finally:
            queue.batcher = None
            for future in (*served, *(future for _, future in queue.pending)):
                future.cancel()  # no effect on futures that have their result

    def _discard(self, permit: Permit) -> None:
        if permit.admission is Admission.GO:
            self._release(permit)

    async def _request_permits(self, host: str, terms: _Terms, number: int) -> list[Permit]:
        token = f"{self._owner_prefix}{self._worker}:{next(self._tokens)}"
        answer = await self._call_enter(host, terms, token, number)
        if answer is None:
            self._schedule_release(host, [f"{token}:{n}" for n in range(1, number + 1)])
            return [self._decide_locally(host, terms) for _ in range(number)]
        verdict, wait, slowed, worried, self._workers, left, contended, kind, *waits = answer
        self._track_slowed(host, slowed=bool(slowed))
        self._queues[host].contended = contended > 0
        has_failures = bool(worried) or self._local.breakers.has_failures(host)
        kind = kind.decode() if isinstance(kind, bytes) else kind
        refusal = Permit(host, Admission(verdict), wait / MICRO, may_retry=bool(left), kind=kind)
        permits = [
            Permit(
                host,
                Admission.GO,
                go / MICRO,
                f"{token}:{n}",
                has_failures,
                bool(left),
                in_redis=True,
                is_retry=terms.again,
            )
            for n, go in enumerate(waits, 1)
        ]
        return permits + [replace(refusal) for _ in range(number - len(permits))]

    def _decide_locally(self, host: str, terms: _Terms) -> Permit:
        return self._local.decide(host, terms.limits, again=terms.again, patience=terms.patience)

    async def _call_enter(
        self, host: str, terms: _Terms, token: str, number: int
    ) -> list[Any] | None:
        limits = terms.limits
        interval = MICRO / limits.rate
        queue = self._queues[host]
        released, queue.to_release = queue.to_release[:_BATCH], queue.to_release[_BATCH:]
        key = _limit_key(host)
        keys = [key, f"{key}:slots", f"{key}:waiting", f"{key}:workers"]
        args = [
            self._clock_offset(),
            f"{interval:.3f}",
            f"{(limits.burst - 1) * interval:.3f}",
            f"{terms.patience * MICRO:.0f}",
            self._worker,
            limits.concurrency,
            f"{SLOT_LEASE * MICRO:.0f}",
            token,
            number,
            int(terms.again),
            *released,
        ]
        answer = await self._run_script(limiter_scripts.ENTER, keys, args)
        if answer is None:
            self._schedule_release(host, released)
        return answer

    def release(self, permit: Permit) -> None:
        """See Limiter. The slot is released with the next request, or after a short delay."""
        self._local.slots.release(permit.host)
        self._release(permit)

    def _release(self, permit: Permit) -> None:
        if permit.in_redis:
            self._schedule_release(permit.host, [permit.token])
        else:
            self._local.breakers.release_probe(permit.host, permit.token)

    def _schedule_release(self, host: str, tokens: Sequence[str]) -> None:
        queue = self._queues[host]
        queue.to_release += tokens
        if queue.timer is None:
            loop = asyncio.get_running_loop()
            wait = 0 if queue.contended else _RELEASE_DELAY
            queue.timer = loop.call_later(wait, self._release_pending, host)
        queue.wakeup.set()  # a request waiting in this process may take it

    def _release_pending(self, host: str) -> None:
        queue = self._queues[host]
        queue.timer = None
        if queue.batcher is not None and not queue.contended:  # its call releases them
            queue.timer = asyncio.get_running_loop().call_later(
                _RELEASE_DELAY, self._release_pending, host
            )
            return
        released, queue.to_release = queue.to_release, []
        if queue.idle():
            del self._queues[host]
        if released:
            key = _limit_key(host)
            release = asyncio.ensure_future(
                self._run_script(limiter_scripts.FREE, [f"{key}:slots", f"{key}:waiting"], released)
            )
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)

    async def heartbeat(self, lease: float) -> None:
        """See Limiter."""
        key = f"rollcall:limit:alive:{self._worker}"
        await self._redis.psetex(key, round(lease * 1000), 1)
        self._owner_prefix = f"{key}|"

    async def close(self) -> None:
        """See Limiter."""
        for host, queue in list(self._queues.items()):
            queue.contended = True
            if queue.timer is not None:
                queue.timer.cancel()
                self._release_pending(host)
        await asyncio.gather(*self._releases)

    async def record(self, permit: Permit, failure: Failure | None) -> Failure | None:
        """See Limiter. Calls Redis only if there is a change to record."""
        host = permit.host
        unreachable_hosts = _unreachable_hosts(self._local.reach, host, failure)
        if failure is not None and unreachable_hosts:
            for unreachable_host in unreachable_hosts:
                await self._record_answer(unreachable_host, "")
            return _local_network_failure(failure, unreachable_hosts)
        if failure is not None and breaker.is_hard_failure(failure):
            await self._record_failure(permit, failure)
        elif permit.has_failures:
            await self._record_answer(host, permit.token)
        await self._adjust_rate(host, failure)
        return failure

    async def _record_failure(self, permit: Permit, failure: Failure) -> None:
        host, kind, token = permit.host, failure.kind.value, permit.token
        keys = [_limit_key(host), f"{_limit_key(host)}:waiting", limiter_scripts.OPEN_BREAKERS_KEY]
        again = int(permit.is_retry)
        answer = await self._run_script(
            limiter_scripts.FAILED, keys, [self._clock_offset(), token, kind, again, host]
        )
        if answer is None:
            open_seconds = self._local.breakers.record_failure(
                host, kind, token, again=permit.is_retry
            )
            _log_opened(host, failure, open_seconds)
        else:
            _log_opened(host, failure, answer[0] / MICRO)

    async def _record_answer(self, host: str, token: str) -> None:
        if token:
            self._local.breakers.record_response(host, token)
        else:
            self._local.breakers.reset(host)
        keys = [_limit_key(host), f"{_limit_key(host)}:waiting", limiter_scripts.OPEN_BREAKERS_KEY]
        await self._run_script(limiter_scripts.ANSWERED, keys, [host, token])

    async def _adjust_rate(self, host: str, failure: Failure | None) -> None:
        if failure is None:
            await self._record_clean(host)
        elif failure.status in _THROTTLES:
            self._local.adjust_rate(host, failure)
            self._clean[host] = 0
            closed = f"{(failure.retry_in or 0.0) * MICRO:.0f}"
            args = [
                self._clock_offset(),
                closed,
                limiter_scripts.PENALTY_INTERVAL_MICROS,
                str(MAX_SLOWDOWN),
            ]
            await self._run_script(limiter_scripts.PENALISE, [_limit_key(host)], args)

    async def _record_clean(self, host: str) -> None:
        """Count a good response of a slowed host; every twentieth calls Redis."""
        if host not in self._clean:
            return
        self._local.adjust_rate(host, None)
        self._clean[host] += 1
        if self._clean[host] >= RESPONSES_PER_EASING:
            self._clean[host] = 0
            await self._run_script(limiter_scripts.EASE, [_limit_key(host)], [str(EASING_FACTOR)])

    def _track_slowed(self, host: str, *, slowed: bool) -> None:
        if slowed:
            self._clean.setdefault(host, 0)
        else:
            self._clean.pop(host, None)

    def _clock_offset(self) -> str:
        return f"{self._ahead() * MICRO:.0f}"

    async def _run_script(
        self, text: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any] | None:
        if self._redis_down_until is not None and self._clock() < self._redis_down_until:
            return None
        script: AsyncScript = self._scripts[text]
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                answer = cast("list[Any]", await script(keys=list(keys), args=list(args)))
        except (RedisError, OSError, TimeoutError) as error:
            if self._redis_down_until is None:
                _log.warning("limiter.redis_away", error=type(error).__name__)
            self._redis_down_until = self._clock() + _REDIS_TIMEOUT
            return None
        if self._redis_down_until is not None:
            _log.info("limiter.redis_back")
            self._redis_down_until = None
        return answer


_SCRIPTS = (
    limiter_scripts.ENTER,
    limiter_scripts.FREE,
    limiter_scripts.FAILED,
    limiter_scripts.ANSWERED,
    limiter_scripts.PENALISE,
    limiter_scripts.EASE,
)


async def wait_for_slot(slots: Slots, host: str, limit: int) -> float:
    """Take a slot of this process; return the seconds spent waiting for it."""
    if slots.in_flight(host) < limit:
        await slots.acquire(host, limit)
        return 0.0
    began = time.monotonic()
    await slots.acquire(host, limit)
    return time.monotonic() - began


def _unreachable_hosts(reach: NetworkReachability, host: str, failure: Failure | None) -> list[str]:
    lost = is_connection_failure(failure)
    reach.record(host, reached=not lost)
    return reach.unreachable_hosts() if lost else []


def _local_network_failure(failure: Failure, hosts: Sequence[str]) -> LocalNetwork:
    message = f"no host can be reached ({', '.join(sorted(hosts))}): the local network is down"
    return LocalNetwork(message, url=failure.url, retry=True)


def _log_opened(host: str, failure: Failure, open_seconds: float) -> None:
    if open_seconds > 0:
        _log.warning("breaker.opened", host=host, kind=failure.kind.value, rest_s=open_seconds)


def _limit_key(host: str) -> str:
    return f"rollcall:limit:{host}"
