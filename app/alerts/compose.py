"""Alert messages: what to send now, grouped into one message, and its text. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.alerts.standing import SCHEDULER, Seen, Standing, State
from app.health.explain import at, span
from app.quiet import Quiet

MOST = 20  # entries listed in each section of a message
PATIENCE = 30.0  # seconds before missing workers are alerted: it may be a deploy
CATCHING_UP = timedelta(seconds=60)
LONGEST_HOLD = 900.0  # seconds after a recovery of the scheduler


@dataclass(frozen=True, slots=True)
class Manners:
    """The settings of alerts.

    `group`: seconds for which changes are collected into one message. `remind`: interval between
    reminders, None for no reminders. `quiet`: hours in which nothing is sent.
    """

    group: float = 30.0
    remind: timedelta | None = timedelta(hours=24)
    quiet: Quiet | None = None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent, in plain text."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Keys to report: newly unhealthy, still unhealthy, and recovered."""

    ill: Sequence[str] = ()
    reminded: Sequence[str] = ()
    recovered: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.ill or self.reminded or self.recovered)


def plan(seen: Seen, states: Mapping[str, State], manners: Manners) -> Plan:
    """What to report now. In quiet hours nothing; what lasts is reported after them."""
    if manners.quiet is not None and manners.quiet.covers(seen.now):
        return Plan()
    current = [state for key, state in states.items() if key in seen.standings]
    unreported = [
        s for s in current if s.ill and s.told_at is None and _may_report(s, seen, states)
    ]
    grouped = _group_is_due(unreported, seen, manners)
    return Plan(
        ill=_keys(unreported) if grouped else _keys(s for s in unreported if s.key == SCHEDULER),
        reminded=_keys(s for s in current if _reminder_is_due(s, seen.now, manners)),
        recovered=_recovered(states.values(), seen.now, manners),
    )


def _keys(states: Iterable[State]) -> list[str]:
    return sorted(state.key for state in states)


def _may_report(state: State, seen: Seen, states: Mapping[str, State]) -> bool:
    """Whether to report the state: not while the scheduler is down, nor while it catches up."""
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


def _group_is_due(unreported: Sequence[State], seen: Seen, manners: Manners) -> bool:
    oldest = min((s.flipped_at for s in unreported if s.key != SCHEDULER), default=None)
    return oldest is not None and seen.now - oldest >= timedelta(seconds=manners.group)


def _reminder_is_due(state: State, now: datetime, manners: Manners) -> bool:
    last = state.reminded_at or state.told_at
    if not state.ill or last is None or manners.remind is None:
        return False
    return now - last >= manners.remind


def _recovered(states: Iterable[State], now: datetime, manners: Manners) -> list[str]:
    recovered = [state for state in states if not state.ill and state.told_at is not None]
    oldest = min((state.flipped_at for state in recovered), default=None)
    grouped = oldest is not None and now - oldest >= timedelta(seconds=manners.group)
    return _keys(recovered) if grouped else []


def message(plan_: Plan, seen: Seen, states: Mapping[str, State], manners: Manners) -> Message:
    """The message for a plan that is not empty."""
    parts = [
        *_section(plan_.ill, "", lambda key: _problem(key, seen, states, manners)),
        *_section(
            plan_.reminded, "Still unhealthy:", lambda key: _problem(key, seen, states, manners)
        ),
        *_section(plan_.recovered, "Recovered:", lambda key: _recovery(states[key])),
    ]
    if manners.public_url is not None:
        parts.append(f"Dashboard: {manners.public_url}/")
    return Message(f"[rollcall] {_title(plan_, seen)}", "\n\n".join(parts))


def _title(plan_: Plan, seen: Seen) -> str:
    parts: list[str] = []
    if SCHEDULER in plan_.ill:
        parts.append(_scheduler_problem(seen))
    jobs = [key for key in plan_.ill if key != SCHEDULER]
    if jobs:
        parts.append(_new_problems(jobs, seen))
    if plan_.reminded:
        parts.append(f"{_named(plan_.reminded)} still unhealthy")
    if plan_.recovered:
        parts.append(f"{_named(plan_.recovered)} healthy again")
    return "; ".join(parts)


def _scheduler_problem(seen: Seen) -> str:
    standing = seen.standings.get(SCHEDULER)
    redis_down = standing is not None and standing.reason == "redis_unreachable"
    return "Redis does not answer" if redis_down else "the scheduler is down: no live worker"


def _new_problems(jobs: Sequence[str], seen: Seen) -> str:
    if len(jobs) > 1:
        return f"{len(jobs)} jobs are unhealthy"
    standing = seen.standings[jobs[0]]
    return f"{jobs[0]} is {_as_text(standing.reason)}"


def _named(keys: Sequence[str]) -> str:
    return keys[0] + " is" if len(keys) == 1 else f"{len(keys)} are"


def _section(keys: Sequence[str], head: str, line: Callable[[str], str]) -> list[str]:
    if not keys:
        return []
    lines = [line(key) for key in keys[:MOST]]
    if len(keys) > MOST:
        lines.append(f"… and {len(keys) - MOST} more.")
    return [*([head] if head else []), *lines]


def _problem(key: str, seen: Seen, states: Mapping[str, State], manners: Manners) -> str:
    standing: Standing = seen.standings[key]
    since = states[key].ill_since or standing.since
    lines = [f"{key}: {_as_text(standing.reason)} since {at(since)}: {standing.detail}."]
    if standing.expected is not None:
        lines.append(f"Expected by: {at(standing.expected)}.")
    if standing.last_error:
        lines.append(f"Last error: {standing.last_error}")
    if manners.public_url is not None and key != SCHEDULER and not key.startswith("collection:"):
        lines.append(f"{manners.public_url}/jobs/{key}")
    return "\n".join(lines)


def _recovery(state: State) -> str:
    duration = (state.flipped_at - (state.ill_since or state.flipped_at)).total_seconds()
    since = f"{_as_text(state.status)} since {at(state.flipped_at)}"
    return f"{state.key}: {since}, unhealthy for {span(duration)}."


def _as_text(value: str | None) -> str:
    return (value or "unknown").replace("_", " ")
