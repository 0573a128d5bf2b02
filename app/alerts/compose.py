"""What is to be told, to whom it may concern: one message for all that happened together. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.alerts.standing import SCHEDULER, Seen, Standing, State
from app.health.explain import at, span
from app.quiet import Quiet

MOST = 20  # lines of a message
PATIENCE = 30.0  # seconds that a scheduler without workers is given: it may be a deploy
CATCHING_UP = timedelta(seconds=60)
LONGEST_HOLD = 900.0  # seconds


@dataclass(frozen=True, slots=True)
class Manners:
    """How one wants to be told. `group` in seconds; `remind` None is never."""

    group: float = 30.0
    remind: timedelta | None = timedelta(hours=24)
    quiet: Quiet | None = None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent. Plain text."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is to be told of what, by key: newly ill, ill still, and well again."""

    ill: Sequence[str] = ()
    reminded: Sequence[str] = ()
    recovered: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.ill or self.reminded or self.recovered)


def plan(seen: Seen, states: Mapping[str, State], manners: Manners) -> Plan:
    """What is to be told now. What is not told in quiet hours is told after them, if it lasts."""
    if manners.quiet is not None and manners.quiet.covers(seen.now):
        return Plan()
    known = [state for key, state in states.items() if key in seen.standings]
    untold = [s for s in known if s.ill and s.told_at is None and _may_tell(s, seen, states)]
    ready = _ready(untold, seen, manners)
    return Plan(
        ill=_keys(untold) if ready else _keys(s for s in untold if s.key == SCHEDULER),
        reminded=_keys(s for s in known if _is_due(s, seen.now, manners)),
        recovered=_recovered(states.values(), seen.now, manners),
    )


def _keys(states: Iterable[State]) -> list[str]:
    return sorted(state.key for state in states)


def _may_tell(state: State, seen: Seen, states: Mapping[str, State]) -> bool:
    """Not what a dead scheduler explains, nor what a living one is about to make good."""
    scheduler = states.get(SCHEDULER)
    if state.key == SCHEDULER:
        interval = seen.standings[SCHEDULER].interval
        patience = PATIENCE if interval is None else min(PATIENCE, interval / 3)
        return seen.now - state.flipped_at >= timedelta(seconds=patience)
    if scheduler is None or scheduler.ill_since is None:
        return True
    if scheduler.ill:
        return False
    interval = seen.standings[state.key].interval or LONGEST_HOLD
    hold = timedelta(seconds=min(interval, LONGEST_HOLD)) + CATCHING_UP
    return seen.now >= scheduler.flipped_at + hold


def _ready(untold: Sequence[State], seen: Seen, manners: Manners) -> bool:
    oldest = min((s.flipped_at for s in untold if s.key != SCHEDULER), default=None)
    return oldest is not None and seen.now - oldest >= timedelta(seconds=manners.group)


def _is_due(state: State, now: datetime, manners: Manners) -> bool:
    last = state.reminded_at or state.told_at
    if not state.ill or last is None or manners.remind is None:
        return False
    return now - last >= manners.remind


def _recovered(states: Iterable[State], now: datetime, manners: Manners) -> list[str]:
    well = [state for state in states if not state.ill and state.told_at is not None]
    oldest = min((state.flipped_at for state in well), default=None)
    waited = oldest is not None and now - oldest >= timedelta(seconds=manners.group)
    return _keys(well) if waited else []


def message(plan_: Plan, seen: Seen, states: Mapping[str, State], manners: Manners) -> Message:
    """The plan in words."""
    parts = [
        *_section(plan_.ill, "", lambda key: _ill(key, seen, states, manners)),
        *_section(plan_.reminded, "Still ill:", lambda key: _ill(key, seen, states, manners)),
        *_section(plan_.recovered, "Well again:", lambda key: _well(states[key])),
    ]
    if manners.public_url is not None:
        parts.append(f"All of it: {manners.public_url}/")
    return Message(f"[rollcall] {_title(plan_, seen)}", "\n\n".join(parts))


def _title(plan_: Plan, seen: Seen) -> str:
    said: list[str] = []
    if SCHEDULER in plan_.ill:
        said.append(_scheduler_is(seen))
    jobs = [key for key in plan_.ill if key != SCHEDULER]
    if jobs:
        said.append(_one_or_many(jobs, seen))
    if plan_.reminded:
        said.append(f"{_named(plan_.reminded)} still ill")
    if plan_.recovered:
        said.append(f"{_named(plan_.recovered)} well again")
    return "; ".join(said)


def _scheduler_is(seen: Seen) -> str:
    standing = seen.standings.get(SCHEDULER)
    blind = standing is not None and standing.reason == "redis_unreachable"
    return "Redis does not answer" if blind else "the scheduler is dead: no worker beats"


def _one_or_many(jobs: Sequence[str], seen: Seen) -> str:
    if len(jobs) > 1:
        return f"{len(jobs)} jobs are ill"
    standing = seen.standings[jobs[0]]
    return f"{jobs[0]} is {_word(standing.reason)}"


def _named(keys: Sequence[str]) -> str:
    return keys[0] + " is" if len(keys) == 1 else f"{len(keys)} are"


def _section(keys: Sequence[str], head: str, line: Callable[[str], str]) -> list[str]:
    if not keys:
        return []
    lines = [line(key) for key in keys[:MOST]]
    if len(keys) > MOST:
        lines.append(f"… and {len(keys) - MOST} more.")
    return [*([head] if head else []), *lines]


def _ill(key: str, seen: Seen, states: Mapping[str, State], manners: Manners) -> str:
    standing: Standing = seen.standings[key]
    since = states[key].ill_since or standing.since
    lines = [f"{key}: {_word(standing.reason)} since {at(since)}: {standing.detail}."]
    if standing.expected is not None:
        lines.append(f"Expected by: {at(standing.expected)}.")
    if standing.last_error:
        lines.append(f"Last error: {standing.last_error}")
    if manners.public_url is not None and key != SCHEDULER and not key.startswith("collection:"):
        lines.append(f"{manners.public_url}/jobs/{key}")
    return "\n".join(lines)


def _well(state: State) -> str:
    down = (state.flipped_at - (state.ill_since or state.flipped_at)).total_seconds()
    return f"{state.key}: {_word(state.status)} since {at(state.flipped_at)}, ill for {span(down)}."


def _word(word: str | None) -> str:
    return (word or "unknown").replace("_", " ")
