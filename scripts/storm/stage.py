"""Where the storm is played: everything up, blow after blow, then calm."""

import heapq
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from scripts.storm import plan
from scripts.storm.crew import Crew, Life
from scripts.storm.plan import Act, Blow
from scripts.storm.servers import Server, Servers, until
from scripts.storm.web import Web

Step = Callable[[], None]

_LOOK = 0.05
_STARTED = 45.0
_GONE = 30.0
_ENDINGS = {
    Blow.REDIS_KILL: signal.SIGKILL,
    Blow.REDIS_STOP: signal.SIGTERM,
    Blow.POSTGRES_FAST: signal.SIGINT,
    Blow.POSTGRES_IMMEDIATE: signal.SIGQUIT,
}


@dataclass(slots=True)
class Stage:
    """The servers, the web, the workers, and what is still to happen to them."""

    seed: int
    servers: Servers
    web: Web
    crew: Crew
    tell: Callable[[str], None]
    blows: Counter[Blow] = field(default_factory=Counter[Blow])
    _later: list[tuple[float, int, Step]] = field(default_factory=list[tuple[float, int, Step]])
    _began: float = field(default_factory=time.monotonic)
    _steps: int = 0

    def fill(self) -> bool:
        """Start a worker in every empty place; did all come up?"""
        for slot in range(self.crew.size):
            self._start(slot)
        return until(self._all_up, _STARTED)

    def play(self, acts: Sequence[Act], seconds: float) -> None:
        """Let the blows fall, each at its time; returns after so many seconds."""
        self._began = time.monotonic()
        for act in acts:
            self._at(act.at, partial(self._strike, act))
        while (now := self._now()) < seconds:
            if self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()
            else:
                self._start_again_who_died_alone()
                time.sleep(_LOOK)

    def calm(self) -> bool:
        """Servers up, sleepers awake, places filled; did all come up?"""
        self._later.clear()
        for server in (self.servers.postgres, self.servers.redis):
            _raise(server)
        for life in self.crew.lives:
            life.thaw()
        until(lambda: not self._leaving(), _GONE)
        return self.fill()

    def dismiss(self) -> None:
        """SIGTERM to all, who have nothing to do any more, and wait until they are gone."""
        for slot in range(self.crew.size):
            if life := self.crew.at(slot):
                life.strike(signal.SIGTERM, "idle SIGTERM")
        until(lambda: not self._leaving(), _GONE)

    def _strike(self, act: Act) -> None:
        if act.blow is Blow.PRICES:
            self.web.advance(share=0.2)
        elif act.blow in {Blow.BLACKOUT, Blow.DEPLOY}:
            self._strike_all(act)
        elif act.blow in {Blow.KILL, Blow.TERM, Blow.FREEZE}:
            self._strike_one(act)
        elif not self._strike_server(act):
            return
        self.blows[act.blow] += 1
        self.tell(f"{self._now():6.1f} s  {act.blow}{_lasting(act)}")

    def _strike_all(self, act: Act) -> None:
        number = signal.SIGKILL if act.blow is Blow.BLACKOUT else signal.SIGTERM
        for slot in range(self.crew.size):
            if life := self.crew.at(slot):
                life.strike(number, act.blow)
            self._at(self._now() + act.seconds, partial(self._start, slot))

    def _strike_one(self, act: Act) -> None:
        life = self._target(act.worker)
        if life is None:
            return
        if act.blow is Blow.FREEZE:
            life.freeze()
            self._at(self._now() + act.seconds, life.thaw)
            return
        life.strike(signal.SIGKILL if act.blow is Blow.KILL else signal.SIGTERM, act.blow)
        self._at(self._now() + act.seconds, partial(self._start, life.slot))

    def _target(self, slot: int) -> Life | None:
        """Who stands in that place, or in the next one that is filled by somebody awake."""
        for step in range(self.crew.size):
            life = self.crew.at((slot + step) % self.crew.size)
            if life is not None and life.asleep is None:
                return life
        return None

    def _strike_server(self, act: Act) -> bool:
        redis = act.blow not in {Blow.POSTGRES_FAST, Blow.POSTGRES_IMMEDIATE}
        server = self.servers.redis if redis else self.servers.postgres
        if not server.up:
            return False
        if act.blow is Blow.REDIS_FLUSH:
            self.servers.flush()
        elif act.blow is Blow.REDIS_FREEZE:
            server.freeze()
        else:
            server.strike(_ENDINGS[act.blow])
        self._at(self._now() + act.seconds, partial(_raise, server))
        return True

    def _start(self, slot: int) -> None:
        self.crew.start(slot, plan.skew(self.seed, slot, self.crew.count(slot)))

    def _all_up(self) -> bool:
        lives = [self.crew.at(slot) for slot in range(self.crew.size)]
        return all(life is not None and life.up_since() for life in lives)

    def _leaving(self) -> list[Life]:
        return [life for life in self.crew.lives if life.how is not None and life.alive()]

    def _start_again_who_died_alone(self) -> None:
        for life in self.crew.alone():
            life.how = "by itself"
            self.tell(f"[red]worker {life.slot} ended by itself: {life.log.name}[/]")
            self._start(life.slot)

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _at(self, when: float, step: Step) -> None:
        self._steps += 1
        heapq.heappush(self._later, (when, self._steps, step))


def _raise(server: Server) -> None:
    if server.frozen:
        server.thaw()
    elif not server.up:
        server.start()


def _lasting(act: Act) -> str:
    if act.blow in {Blow.PRICES, Blow.REDIS_FLUSH, Blow.DEPLOY}:
        return ""
    return f", {act.seconds:.1f} s" + (f", worker {act.worker}" if act.blow in _ONE else "")


_ONE = {Blow.KILL, Blow.TERM, Blow.FREEZE}
