"""Whether and when a host may be asked: its breaker, its retries, its slots and its rate, at once.

One call to Redis before each request, none after it: a slot that falls free is given back with the
next request of this worker, or a moment later if there is none.
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

from app.errors import Failure, LocalNetwork
from app.fetch import breaker, lua
from app.fetch.borders import unreached
from app.fetch.breaker import Breakers, Reach
from app.fetch.lua import MICRO
from app.fetch.rates import CLEAN_ANSWERS, EASING, SLOWEST, Rates
from app.fetch.retry import PATIENCE, Budget
from app.fetch.slots import Slots
from app.log import logger
from app.messages import Limits

SLOT_LEASE = 60.0  # seconds; longer than one attempt may take, so only a dead worker's slot ends so
_THROTTLES = frozenset({429, 503})
_LINGER = 0.02  # seconds for which a free slot waits for the next request to take it along
_AT_ONCE = 100  # requests in one call
_DOZE = 1.0  # seconds until a waiting worker looks by itself
_REDIS_PATIENCE = 1.0

_log = logger("fetch")


class Verdict(Enum):
    """What becomes of a request that is to be made."""

    GO = lua.GO
    TOO_LONG = lua.TOO_LONG  # its turn comes after more than the patience
    RESTING = lua.RESTING  # the breaker is open
    SPENT = lua.SPENT  # it is a retry, and there were too many this hour
    BUSY = lua.BUSY  # never seen outside


@dataclass(slots=True)
class Pass:
    """The leave to ask a host, `wait` seconds from now, or the refusal of it.

    `queued`: seconds spent on waiting for a slot. `kind`: the failure a resting host had last.
    `may_retry`: whether the host has retries left this hour. `again`: it is for a retry.
    """

    host: str
    verdict: Verdict
    wait: float = 0.0
    token: str = ""
    worried: bool = False
    may_retry: bool = True
    kind: str = ""
    queued: float = 0.0
    shared: bool = False
    again: bool = False


class Limiter(Protocol):
    """Says when a host may be asked, and learns from its answers."""

    async def enter(
        self, host: str, limits: Limits, *, again: bool = False, patience: float = PATIENCE
    ) -> Pass:
        """Ask for leave; waits for a slot. `again`: it is a retry.

        A pass that says GO must be freed; sleep its `wait` first. Any other reserved nothing.
        """
        ...

    def free(self, passed: Pass) -> None:
        """The request has ended, however it did, and was heeded unless it was cancelled."""
        ...

    async def heed(self, passed: Pass, failure: Failure | None) -> Failure | None:
        """Learn from how it ended; returns the failure as it is to be told, None if all is well."""
        ...

    async def beat(self, lease: float) -> None:
        """Say that this worker lives; when it is silent for `lease` seconds, its slots are free.

        Raises what Redis raises. Who never beats keeps a slot until the slot's own lease ends.
        """
        ...

    async def close(self) -> None:
        """Give back what is still held; before Redis is closed."""
        ...


class LocalLimiter:
    """The limiter of one process. `share`: how many such processes share the budgets.

    `clock` is in seconds and only moves forward.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, share: Callable[[], int] = lambda: 1
    ) -> None:
        self._share = share
        self._tokens = count()
        self.slots = Slots()
        self.rates = Rates(clock, share)
        self.breakers = Breakers(clock)
        self.budget = Budget(clock)
        self.reach = Reach(clock)

    async def enter(
        self, host: str, limits: Limits, *, again: bool = False, patience: float = PATIENCE
    ) -> Pass:
        """See Limiter."""
        queued = await line_up(
            self.slots, host, max(limits.concurrency // max(self._share(), 1), 1)
        )
        while True:
            passed = self.decide(host, limits, again=again, patience=patience)
            if passed.verdict is not Verdict.BUSY:
                break
            await asyncio.sleep(_LINGER)
            queued += _LINGER
        passed.queued = queued
        if passed.verdict is not Verdict.GO:
            self.slots.free(host)
        return passed

    def decide(self, host: str, limits: Limits, *, again: bool, patience: float) -> Pass:
        """What `enter` says to a request that has its slot; BUSY while another goes first."""
        rest, kind = self.breakers.resting(host)
        if rest > 0:
            return Pass(host, Verdict.RESTING, rest, kind=kind)
        if again and not self.budget.left(host):
            return Pass(host, Verdict.SPENT)
        token = f"local:{next(self._tokens)}"
        if not self.breakers.enter(host, token):
            return Pass(host, Verdict.BUSY)
        wait = self.rates.reserve(host, limits, patience=patience)
        if wait > patience:
            self.breakers.let_go(host, token)
            return Pass(host, Verdict.TOO_LONG, wait)
        self.budget.count(host, again=again)
        return Pass(
            host,
            Verdict.GO,
            wait,
            token=token,
            worried=self.breakers.worried(host),
            may_retry=self.budget.left(host),
            again=again,
        )

    def free(self, passed: Pass) -> None:
        """See Limiter."""
        self.breakers.let_go(passed.host, passed.token)
        self.slots.free(passed.host)

    async def heed(self, passed: Pass, failure: Failure | None) -> Failure | None:
        """See Limiter."""
        host, token = passed.host, passed.token
        cut_off = _cut_off(self.reach, host, failure)
        for unreachable in cut_off:
            self.breakers.forgive(unreachable)
        if failure is not None and cut_off:
            self.breakers.let_go(host, token)
            return _local(failure, cut_off)
        if failure is not None and breaker.hard(failure):
            rest = self.breakers.failed(host, failure.kind, token, again=passed.again)
            _tell(host, failure, rest)
        else:
            self.breakers.answered(host, token)
        self.learn(host, failure)
        return failure

    async def beat(self, lease: float) -> None:
        """See Limiter."""

    async def close(self) -> None:
        """See Limiter."""

    def learn(self, host: str, failure: Failure | None) -> None:
        """Slow down or speed up."""
        if failure is None:
            self.rates.clean(host)
        elif failure.status in _THROTTLES:
            self.rates.penalise(host, failure.retry_in or 0.0)


@dataclass(frozen=True, slots=True)
class _Terms:
    """On which terms leave is asked for; those who agree in them can be answered together."""

    limits: Limits
    again: bool
    patience: float


@dataclass(slots=True)
class _Line:
    """What one worker knows of a host: who asks, who waits for a slot, and slots to give back."""

    asking: list[tuple[_Terms, asyncio.Future[Pass]]] = field(
        default_factory=list[tuple[_Terms, "asyncio.Future[Pass]"]]
    )
    clerk: asyncio.Task[None] | None = None
    bell: asyncio.Task[None] | None = None
    stir: asyncio.Event = field(default_factory=asyncio.Event)
    spare: list[str] = field(default_factory=list[str])
    timer: asyncio.TimerHandle | None = None
    contended: bool = False

    def idle(self) -> bool:
        return not (self.asking or self.clerk or self.spare or self.bell)


class RedisLimiter:
    """The limiter all workers share. Without Redis, each keeps to its share of the budgets.

    `ahead`: seconds by which the time is taken to be later than Redis says, for drills.
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
        self._owner = ""  # what our tokens begin with, once we beat
        self._clock = clock
        self._ahead = ahead
        self._workers = 1
        self._local = LocalLimiter(clock, share=lambda: self._workers)
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)
        self._tokens = count()
        self._scripts = {text: redis.register_script(text) for text in _SCRIPTS}
        self._clean: dict[str, int] = {}  # only hosts that are slowed
        self._away_until: float | None = None
        self._errands: set[asyncio.Task[Any]] = set()

    async def enter(
        self, host: str, limits: Limits, *, again: bool = False, patience: float = PATIENCE
    ) -> Pass:
        """See Limiter."""
        queued = await line_up(self._local.slots, host, self._most(limits))
        go = False
        try:
            passed = await self._enter(host, _Terms(limits, again, patience))
            go = passed.verdict is Verdict.GO
        finally:
            if not go:
                self._local.slots.free(host)
        passed.queued += queued
        return passed

    def _most(self, limits: Limits) -> int:
        share = 1 if self._away_until is None else max(self._workers, 1)
        return max(limits.concurrency // share, 1)

    async def _enter(self, host: str, terms: _Terms) -> Pass:
        passed = await self._decide(host, terms)
        if passed.verdict is not Verdict.BUSY:
            return passed
        began = time.monotonic()
        while passed.verdict is Verdict.BUSY:
            line = self._lines[host]
            line.stir.clear()
            if line.bell is None:
                line.bell = asyncio.create_task(self._listen(host, line))
            await line.stir.wait()
            passed = await self._decide(host, terms)
        passed.queued = time.monotonic() - began
        return passed

    async def _listen(self, host: str, line: _Line) -> None:
        """Stir those who wait when a slot may be free: at the bell, or after a while."""
        try:
            await self._doze(host)
        finally:
            line.bell = None
            line.stir.set()

    async def _doze(self, host: str) -> None:
        bell = f"{_key(host)}:waiting:{self._worker}"
        try:
            async with asyncio.timeout(_DOZE + _REDIS_PATIENCE):
                await cast("Any", self._redis).blpop([bell], timeout=_DOZE)
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(_LINGER)

    async def _decide(self, host: str, terms: _Terms) -> Pass:
        held = self._local.rates.closed_for(host)
        if held > terms.patience:
            return Pass(host, Verdict.TOO_LONG, held)
        rest, kind = self._local.breakers.resting(host)
        if rest > 0:
            return Pass(host, Verdict.RESTING, rest, kind=kind)
        line = self._lines[host]
        told: asyncio.Future[Pass] = asyncio.get_running_loop().create_future()
        line.asking.append((terms, told))
        if line.clerk is None:
            line.clerk = asyncio.create_task(self._serve(host, line))
        try:
            passed = await told
        except asyncio.CancelledError:
            if told.done() and not told.cancelled():
                self._unused(told.result())
            raise
        passed.wait = max(passed.wait, held)
        return passed

    async def _serve(self, host: str, line: _Line) -> None:
        """Ask leave for all who ask, together: those who come meanwhile go with the next call."""
        served: list[asyncio.Future[Pass]] = []
        try:
            while line.asking:
                terms = line.asking[0][0]
                served = [told for asked, told in line.asking if asked == terms][:_AT_ONCE]
                line.asking = [one for one in line.asking if one[1] not in served]
                passes = await self._leave(host, terms, len(served))
                for told, passed in zip(served, passes, strict=True):
                    if told.done():
                        self._unused(passed)
                    else:
                        told.set_result(passed)
        finally:
            line.clerk = None
            for told in (*served, *(told for _, told in line.asking)):
                told.cancel()  # of those who have their answer this changes nothing

    def _unused(self, passed: Pass) -> None:
        if passed.verdict is Verdict.GO:
            self._return(passed)

    async def _leave(self, host: str, terms: _Terms, many: int) -> list[Pass]:
        token = f"{self._owner}{self._worker}:{next(self._tokens)}"
        answer = await self._ask_leave(host, terms, token, many)
        if answer is None:
            self._give_back_soon(host, [f"{token}:{n}" for n in range(1, many + 1)])
            return [self._decide_alone(host, terms) for _ in range(many)]
        verdict, wait, slowed, worried, self._workers, left, contended, kind, *waits = answer
        self._watch(host, slowed=bool(slowed))
        self._lines[host].contended = contended > 0
        fears = bool(worried) or self._local.breakers.worried(host)
        kind = kind.decode() if isinstance(kind, bytes) else kind
        refusal = Pass(host, Verdict(verdict), wait / MICRO, may_retry=bool(left), kind=kind)
        passes = [
            Pass(
                host,
                Verdict.GO,
                go / MICRO,
                f"{token}:{n}",
                fears,
                bool(left),
                shared=True,
                again=terms.again,
            )
            for n, go in enumerate(waits, 1)
        ]
        return passes + [replace(refusal) for _ in range(many - len(passes))]

    def _decide_alone(self, host: str, terms: _Terms) -> Pass:
        return self._local.decide(host, terms.limits, again=terms.again, patience=terms.patience)

    async def _ask_leave(self, host: str, terms: _Terms, token: str, many: int) -> list[Any] | None:
        limits = terms.limits
        interval = MICRO / limits.rate
        line = self._lines[host]
        given, line.spare = line.spare[:_AT_ONCE], line.spare[_AT_ONCE:]
        key = _key(host)
        keys = [key, f"{key}:slots", f"{key}:waiting", f"{key}:workers"]
        args = [
            self._shift(),
            f"{interval:.3f}",
            f"{(limits.burst - 1) * interval:.3f}",
            f"{terms.patience * MICRO:.0f}",
            self._worker,
            limits.concurrency,
            f"{SLOT_LEASE * MICRO:.0f}",
            token,
            many,
            int(terms.again),
            *given,
        ]
        answer = await self._ask(lua.ENTER, keys, args)
        if answer is None:
            self._give_back_soon(host, given)
        return answer

    def free(self, passed: Pass) -> None:
        """See Limiter. The slot is given back with the next request, or by itself soon."""
        self._local.slots.free(passed.host)
        self._return(passed)

    def _return(self, passed: Pass) -> None:
        if passed.shared:
            self._give_back_soon(passed.host, [passed.token])
        else:
            self._local.breakers.let_go(passed.host, passed.token)

    def _give_back_soon(self, host: str, tokens: Sequence[str]) -> None:
        line = self._lines[host]
        line.spare += tokens
        if line.timer is None:
            loop = asyncio.get_running_loop()
            wait = 0 if line.contended else _LINGER
            line.timer = loop.call_later(wait, self._give_back, host)
        line.stir.set()  # whoever waits here may have it

    def _give_back(self, host: str) -> None:
        line = self._lines[host]
        line.timer = None
        if line.clerk is not None and not line.contended:  # who takes them along
            line.timer = asyncio.get_running_loop().call_later(_LINGER, self._give_back, host)
            return
        given, line.spare = line.spare, []
        if line.idle():
            del self._lines[host]
        if given:
            key = _key(host)
            errand = asyncio.ensure_future(
                self._ask(lua.FREE, [f"{key}:slots", f"{key}:waiting"], given)
            )
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)

    async def beat(self, lease: float) -> None:
        """See Limiter."""
        key = f"rollcall:limit:alive:{self._worker}"
        await self._redis.psetex(key, round(lease * 1000), 1)
        self._owner = f"{key}|"

    async def close(self) -> None:
        """See Limiter."""
        for host, line in list(self._lines.items()):
            line.contended = True
            if line.timer is not None:
                line.timer.cancel()
                self._give_back(host)
        await asyncio.gather(*self._errands)

    async def heed(self, passed: Pass, failure: Failure | None) -> Failure | None:
        """See Limiter. Costs a call to Redis only where there is something to tell."""
        host = passed.host
        cut_off = _cut_off(self._local.reach, host, failure)
        if failure is not None and cut_off:
            for unreachable in cut_off:
                await self._answered(unreachable, "")
            return _local(failure, cut_off)
        if failure is not None and breaker.hard(failure):
            await self._failed(passed, failure)
        elif passed.worried:
            await self._answered(host, passed.token)
        await self._learn(host, failure)
        return failure

    async def _failed(self, passed: Pass, failure: Failure) -> None:
        host, kind, token = passed.host, failure.kind.value, passed.token
        keys = [_key(host), f"{_key(host)}:waiting", lua.RESTS]
        again = int(passed.again)
        answer = await self._ask(lua.FAILED, keys, [self._shift(), token, kind, again, host])
        if answer is None:
            rest = self._local.breakers.failed(host, kind, token, again=passed.again)
            _tell(host, failure, rest)
        else:
            _tell(host, failure, answer[0] / MICRO)

    async def _answered(self, host: str, token: str) -> None:
        if token:
            self._local.breakers.answered(host, token)
        else:
            self._local.breakers.forgive(host)
        keys = [_key(host), f"{_key(host)}:waiting", lua.RESTS]
        await self._ask(lua.ANSWERED, keys, [host, token])

    async def _learn(self, host: str, failure: Failure | None) -> None:
        if failure is None:
            await self._clean_answer(host)
        elif failure.status in _THROTTLES:
            self._local.learn(host, failure)
            self._clean[host] = 0
            closed = f"{(failure.retry_in or 0.0) * MICRO:.0f}"
            args = [self._shift(), closed, lua.HOLD, str(SLOWEST)]
            await self._ask(lua.PENALISE, [_key(host)], args)

    async def _clean_answer(self, host: str) -> None:
        """Costs a call to Redis once in twenty, and only while the host is slowed."""
        if host not in self._clean:
            return
        self._local.learn(host, None)
        self._clean[host] += 1
        if self._clean[host] >= CLEAN_ANSWERS:
            self._clean[host] = 0
            await self._ask(lua.EASE, [_key(host)], [str(EASING)])

    def _watch(self, host: str, *, slowed: bool) -> None:
        if slowed:
            self._clean.setdefault(host, 0)
        else:
            self._clean.pop(host, None)

    def _shift(self) -> str:
        return f"{self._ahead() * MICRO:.0f}"

    async def _ask(
        self, text: str, keys: Sequence[str], args: Sequence[str | int]
    ) -> list[Any] | None:
        if self._away_until is not None and self._clock() < self._away_until:
            return None
        script: AsyncScript = self._scripts[text]
        try:
            async with asyncio.timeout(_REDIS_PATIENCE):
                answer = cast("list[Any]", await script(keys=list(keys), args=list(args)))
        except (RedisError, OSError, TimeoutError) as error:
            if self._away_until is None:
                _log.warning("limiter.redis_away", error=type(error).__name__)
            self._away_until = self._clock() + _REDIS_PATIENCE
            return None
        if self._away_until is not None:
            _log.info("limiter.redis_back")
            self._away_until = None
        return answer


_SCRIPTS = (lua.ENTER, lua.FREE, lua.FAILED, lua.ANSWERED, lua.PENALISE, lua.EASE)


async def line_up(slots: Slots, host: str, most: int) -> float:
    """Take a slot of this process; returns the seconds it took."""
    if slots.under_way(host) < most:
        await slots.take(host, most)
        return 0.0
    began = time.monotonic()
    await slots.take(host, most)
    return time.monotonic() - began


def _cut_off(reach: Reach, host: str, failure: Failure | None) -> list[str]:
    lost = unreached(failure)
    reach.note(host, reached=not lost)
    return reach.cut_off() if lost else []


def _local(failure: Failure, hosts: Sequence[str]) -> LocalNetwork:
    message = f"no host can be reached ({', '.join(sorted(hosts))}): our own network is down"
    return LocalNetwork(message, url=failure.url, retry=True)


def _tell(host: str, failure: Failure, rest: float) -> None:
    if rest > 0:
        _log.warning("breaker.opened", host=host, kind=failure.kind.value, rest_s=rest)


def _key(host: str) -> str:
    return f"rollcall:limit:{host}"
