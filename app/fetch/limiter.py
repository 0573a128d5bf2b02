"""The rate limiter: breaker, retry budget, slots and rate of each host, checked in one call.

One call to Redis precedes each request and none follows it: a free slot is released with the next
request of this worker, or 20 ms later if there is none. While Redis is away, requests wait for it:
the run's time limit ends the wait.

Organisations (tenants) have state of their own for each host they request, with its breaker, retry
budget, cool-down, rate and slots; only a share of the host's rate and slots is common to them, so
that none of them can take the host away from built-in jobs or from another tenant.
"""

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from app.core.errors import Failure, LocalNetwork
from app.core.log import logger
from app.core.messages import HostLimits
from app.fetch import breaker, limiter_scripts
from app.fetch.breaker import NetworkReachability
from app.fetch.buckets import TENANT_LIMITS, Bucket, BucketQueue, Terms, tenants_share
from app.fetch.limiter_scripts import MICRO
from app.fetch.permits import SLOT_LEASE, THROTTLE_STATUSES, Admission, Permit
from app.fetch.rates import EASING_FACTOR, MAX_SLOWDOWN, RESPONSES_PER_EASING
from app.fetch.retry import MAX_WAIT
from app.fetch.slots import Slots
from app.fetch.transport_errors import is_connection_failure

_RELEASE_DELAY = 0.02  # seconds until a free slot is released without a next request
_BATCH = 100  # requests decided in one call
_LISTEN_TIMEOUT = 1.0  # seconds until a waiting worker checks again without a wake-up
_REDIS_TIMEOUT = 3.0
_REDIS_RETRY = 0.25  # seconds between two calls while Redis is away

_log = logger("fetch")


class RedisLimiter:
    """The limiter that all workers share. `ahead` returns seconds added to Redis' time, for drills.

    `clock` is monotonic, in seconds.
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
        self._ahead = ahead
        self._slots = Slots()
        self._reach = NetworkReachability(clock)
        self._queues: defaultdict[Bucket, BucketQueue] = defaultdict(BucketQueue)
        self._tokens = count()
        self._scripts = {text: redis.register_script(text) for text in _SCRIPTS}
        self._clean: dict[str, int] = {}  # good responses since the last easing; slowed hosts only
        self._redis_away_since: float | None = None
        self._releases: set[asyncio.Task[Any]] = set()

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
        terms = Terms(limits, again, patience)
        permit = await self._acquire(Bucket(host, tenant), terms)
        if not tenant or permit.admission is not Admission.GO:
            return permit
        try:
            limits = TENANT_LIMITS if site is None else tenants_share(site)
            share = await self._enter(Bucket(host, share=True), Terms(limits, False, patience))
        except asyncio.CancelledError:
            self.release(permit)
            raise
        if share.admission is not Admission.GO:
            self.release(permit)
            return replace(share, host=host, tenant=tenant)
        permit.share = share
        permit.wait = max(permit.wait, share.wait)
        permit.queued_seconds += share.queued_seconds
        return permit

    async def _acquire(self, bucket: Bucket, terms: Terms) -> Permit:
        queued = await self._slots.acquire(bucket.key, terms.limits.concurrency)
        go = False
        try:
            permit = await self._enter(bucket, terms)
            go = permit.admission is Admission.GO
        finally:
            if not go:
                self._slots.release(bucket.key)
        permit.queued_seconds += queued
        return permit

    async def _enter(self, bucket: Bucket, terms: Terms) -> Permit:
        permit = await self._decide(bucket, terms)
        if permit.admission is not Admission.BUSY:
            return permit
        began = time.monotonic()
        while permit.admission is Admission.BUSY:
            queue = self._queues[bucket]
            queue.wakeup.clear()
            if queue.listener is None:
                queue.listener = asyncio.create_task(self._listen(bucket, queue))
            await queue.wakeup.wait()
            permit = await self._decide(bucket, terms)
        permit.queued_seconds = time.monotonic() - began
        return permit

    async def _listen(self, bucket: Bucket, queue: BucketQueue) -> None:
        """Wake waiting requests when a slot may be free, or after a timeout."""
        try:
            await self._wait_for_wakeup(bucket)
        finally:
            queue.listener = None
            queue.wakeup.set()

    async def _wait_for_wakeup(self, bucket: Bucket) -> None:
        wakeups = f"{bucket.key}:waiting:{self._worker}"
        try:
            async with asyncio.timeout(_LISTEN_TIMEOUT + _REDIS_TIMEOUT):
                await cast("Any", self._redis).blpop([wakeups], timeout=_LISTEN_TIMEOUT)
        except (RedisError, OSError):
            await asyncio.sleep(_RELEASE_DELAY)

    async def _decide(self, bucket: Bucket, terms: Terms) -> Permit:
        queue = self._queues[bucket]
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        queue.pending.append((terms, future))
        if queue.batcher is None:
            queue.batcher = asyncio.create_task(self._serve_pending(bucket, queue))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._discard(bucket, future.result())
            raise

    async def _serve_pending(self, bucket: Bucket, queue: BucketQueue) -> None:
        """Request permits for all pending requests in batches; later ones join the next call."""
        served: list[asyncio.Future[Permit]] = []
        try:
            while queue.pending:
                terms = queue.pending[0][0]
                served = [future for asked, future in queue.pending if asked == terms][:_BATCH]
                queue.pending = [one for one in queue.pending if one[1] not in served]
                permits = await self._request_permits(bucket, terms, served)
                for future, permit in zip(served, permits, strict=False):
                    if future.done():
                        self._discard(bucket, permit)
                    else:
                        future.set_result(permit)
        finally:
            queue.batcher = None
            for future in (*served, *(future for _, future in queue.pending)):
                future.cancel()  # no effect on futures that have their result

    def _discard(self, bucket: Bucket, permit: Permit) -> None:
        if permit.admission is Admission.GO:
            self._schedule_release(bucket, [permit.token])

    async def _request_permits(
        self, bucket: Bucket, terms: Terms, asking: Sequence[asyncio.Future[Permit]]
    ) -> list[Permit]:
        """The decisions, in order; none if all that ask have been cancelled meanwhile."""
        token, number = f"{self._owner_prefix}{self._worker}:{next(self._tokens)}", len(asking)
        answer = await self._call_enter(bucket, terms, token, number)
        while answer is None:
            # The call may have been executed although no answer arrived.
            self._schedule_release(bucket, [f"{token}:{n}" for n in range(1, number + 1)])
            await asyncio.sleep(_REDIS_RETRY)
            if all(future.done() for future in asking):
                return []
            answer = await self._call_enter(bucket, terms, token, number)
        verdict, wait, slowed, has_failures, left, contended, kind, *waits = answer
        self._track_slowed(bucket, slowed=bool(slowed))
        self._queues[bucket].contended = contended > 0
        kind = kind.decode() if isinstance(kind, bytes) else kind
        refusal = Permit(
            bucket.host,
            Admission(verdict),
            wait / MICRO,
            may_retry=bool(left),
            kind=kind,
            tenant=bucket.tenant,
        )
        permits = [
            Permit(
                bucket.host,
                Admission.GO,
                go / MICRO,
                f"{token}:{n}",
                bool(has_failures),
                bool(left),
                is_retry=terms.again,
                tenant=bucket.tenant,
            )
            for n, go in enumerate(waits, 1)
        ]
        return permits + [replace(refusal) for _ in range(number - len(permits))]

    async def _call_enter(
        self, bucket: Bucket, terms: Terms, token: str, number: int
    ) -> list[Any] | None:
        limits = terms.limits
        interval = MICRO / limits.rate
        queue = self._queues[bucket]
        kept = [one for one in queue.to_release if not one.startswith(f"{token}:")]
        released, queue.to_release = kept[:_BATCH], kept[_BATCH:]
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
            bucket.role,
            bucket.name,
            *released,
        ]
        answer = await self._run_script(limiter_scripts.ENTER, bucket.keys, args)
        if answer is None:
            self._schedule_release(bucket, released)
        return answer

    def release(self, permit: Permit) -> None:
        """See Limiter. The slot is released with the next request, or after a short delay."""
        bucket = Bucket(permit.host, permit.tenant)
        self._slots.release(bucket.key)
        self._schedule_release(bucket, [permit.token])
        if permit.share is not None:
            self._schedule_release(Bucket(permit.host, share=True), [permit.share.token])

    def _schedule_release(self, bucket: Bucket, tokens: Sequence[str]) -> None:
        queue = self._queues[bucket]
        queue.to_release += tokens
        if queue.timer is None:
            wait = 0 if queue.contended else _RELEASE_DELAY
            wait = wait if self._redis_away_since is None else _REDIS_TIMEOUT
            queue.timer = asyncio.get_running_loop().call_later(wait, self._release_pending, bucket)
        queue.wakeup.set()  # a request waiting in this process may take it

    def _release_pending(self, bucket: Bucket) -> None:
        queue = self._queues[bucket]
        queue.timer = None
        if queue.batcher is not None and not queue.contended:  # its call releases them
            queue.timer = asyncio.get_running_loop().call_later(
                _RELEASE_DELAY, self._release_pending, bucket
            )
            return
        released, queue.to_release = queue.to_release, []
        if queue.idle():
            del self._queues[bucket]
        if released:
            release = asyncio.ensure_future(self._free(bucket, released))
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)

    async def _free(self, bucket: Bucket, tokens: Sequence[str]) -> None:
        keys = [f"{bucket.key}:slots", f"{bucket.key}:waiting"]
        await self._run_until_answered(limiter_scripts.FREE, keys, tokens)

    async def heartbeat(self, lease: float) -> None:
        key = f"rollcall:limit:alive:{self._worker}"
        await self._redis.psetex(key, round(lease * 1000), 1)
        self._owner_prefix = f"{key}|"

    async def close(self) -> None:
        """See Limiter. Without Redis the slots end with their lease."""
        for bucket, queue in list(self._queues.items()):
            queue.contended = True
            if queue.timer is not None:
                queue.timer.cancel()
                self._release_pending(bucket)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REDIS_TIMEOUT):
                await asyncio.gather(*self._releases)

    async def record(self, permit: Permit, failure: Failure | None) -> Failure | None:
        """See Limiter. Calls Redis only if there is a change to record.

        A failure is recorded before it is returned, however long Redis is away.
        """
        host, bucket = permit.host, Bucket(permit.host, permit.tenant)
        unreachable_hosts = self._unreachable_hosts(permit, failure)
        if failure is not None and unreachable_hosts:
            for unreachable_host in unreachable_hosts:
                await self._record_answer(Bucket(unreachable_host), "")
            return _local_network_failure(failure, unreachable_hosts)
        if failure is not None and breaker.is_hard_failure(failure):
            open_micros = await self._run_until_answered(
                limiter_scripts.FAILED,
                [bucket.key, f"{bucket.key}:waiting", limiter_scripts.OPEN_BREAKERS_KEY],
                [
                    self._clock_offset(),
                    permit.token,
                    failure.kind.value,
                    int(permit.is_retry),
                    "" if permit.tenant else host,
                ],
            )
            _log_opened(permit, failure, open_micros[0] / MICRO)
        elif permit.has_failures:
            await self._record_answer(bucket, permit.token)
        await self._adjust_rate(bucket, failure)
        return failure

    def _unreachable_hosts(self, permit: Permit, failure: Failure | None) -> list[str]:
        """The unreachable hosts, if the local network is down; else empty.

        A tenant's unreachable host says nothing about our network: it may not exist.
        """
        lost = is_connection_failure(failure)
        if not (lost and permit.tenant):
            self._reach.record(permit.host, reached=not lost)
        return self._reach.unreachable_hosts() if lost else []

    async def _record_answer(self, bucket: Bucket, token: str) -> None:
        keys = [bucket.key, f"{bucket.key}:waiting", limiter_scripts.OPEN_BREAKERS_KEY]
        await self._run_script(limiter_scripts.ANSWERED, keys, [bucket.host, token])

    async def _adjust_rate(self, bucket: Bucket, failure: Failure | None) -> None:
        if failure is None:
            await self._record_clean(bucket)
        elif failure.status in THROTTLE_STATUSES:
            self._clean[bucket.key] = 0
            closed = f"{(failure.retry_in or 0.0) * MICRO:.0f}"
            args = [
                self._clock_offset(),
                closed,
                limiter_scripts.PENALTY_INTERVAL_MICROS,
                str(MAX_SLOWDOWN),
            ]
            await self._run_until_answered(limiter_scripts.PENALISE, [bucket.key], args)

    async def _record_clean(self, bucket: Bucket) -> None:
        """Count a good response of a slowed host; every twentieth calls Redis."""
        if bucket.key not in self._clean:
            return
        self._clean[bucket.key] += 1
        if self._clean[bucket.key] >= RESPONSES_PER_EASING:
            self._clean[bucket.key] = 0
            await self._run_script(limiter_scripts.EASE, [bucket.key], [str(EASING_FACTOR)])

    def _track_slowed(self, bucket: Bucket, *, slowed: bool) -> None:
        if slowed:
            self._clean.setdefault(bucket.key, 0)
        else:
            self._clean.pop(bucket.key, None)

    def _clock_offset(self) -> str:
        return f"{self._ahead() * MICRO:.0f}"

    async def _run_until_answered(
        self, text: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any]:
        while True:
            answer = await self._run_script(text, keys, args)
            if answer is not None:
                return answer
            await asyncio.sleep(_REDIS_RETRY)

    async def _run_script(
        self, text: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any] | None:
        script: AsyncScript = self._scripts[text]
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT):
                answer = cast("list[Any]", await script(keys=list(keys), args=list(args)))
        except (RedisError, OSError) as error:
            if self._redis_away_since is None:
                self._redis_away_since = time.monotonic()
                _log.warning("limiter.waits_for_redis", error=repr(error))
            return None
        if self._redis_away_since is not None:
            waited = time.monotonic() - self._redis_away_since
            self._redis_away_since = None
            _log.info("limiter.redis_back", waited_s=round(waited, 1))
        return answer


_SCRIPTS = (
    limiter_scripts.ENTER,
    limiter_scripts.FREE,
    limiter_scripts.FAILED,
    limiter_scripts.ANSWERED,
    limiter_scripts.PENALISE,
    limiter_scripts.EASE,
)


def _local_network_failure(failure: Failure, hosts: Sequence[str]) -> LocalNetwork:
    message = f"no host can be reached ({', '.join(sorted(hosts))}): the local network is down"
    return LocalNetwork(message, url=failure.url, retry=True)


def _log_opened(permit: Permit, failure: Failure, open_seconds: float) -> None:
    if open_seconds > 0:
        owner = {"owner": permit.tenant.partition(":")[0]} if permit.tenant else {}
        _log.warning(
            "breaker.opened",
            host=permit.host,
            kind=failure.kind.value,
            rest_s=open_seconds,
            **owner,
        )
