"""What the storm came to: one table for people, one object for machines."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from scripts.storm import recovery
from scripts.storm.crew import Life
from scripts.storm.judge import Findings
from scripts.storm.plan import Blow
from scripts.storm.recovery import End, Figures
from scripts.storm.servers import Span

_DEATHS = {Blow.KILL.value, Blow.BLACKOUT.value}
_DEPLOYS = {Blow.TERM.value, Blow.DEPLOY.value}


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, blows and the workers' lives, put side by side."""

    findings: Findings
    blows: Counter[Blow]
    lives: Sequence[Life]
    outages: Sequence[Span]
    behind: int

    @property
    def sound(self) -> bool:
        """Nothing unaccounted, doubled, stuck or different, and the house came to rest."""
        return self.findings.sound and not self.behind and self.findings.rested_in is not None

    def recovered(self) -> tuple[Figures, Figures]:
        """After kill -9: seconds in which it was possible to go on, and all seconds."""
        waits = self._waits(_DEATHS)
        return Figures.of([w.possible for w in waits]), Figures.of([w.seconds for w in waits])

    def handed_over(self) -> tuple[Figures, Figures]:
        """After SIGTERM, the grace included."""
        waits = self._waits(_DEPLOYS)
        return Figures.of([w.possible for w in waits]), Figures.of([w.seconds for w in waits])

    def _waits(self, how: set[str]) -> list[recovery.Wait]:
        ends = [
            End(life.pid, life.struck, life.died or datetime.now(UTC))
            for life in self.lives
            if life.how in how and life.struck is not None and not _napping(life)
        ]
        possible = recovery.measure(_awake(self.lives), self.outages)
        return recovery.waits(self.findings.told, ends, possible)

    def exits(self, how: set[str]) -> Figures:
        """Seconds from SIGTERM to the process's end."""
        return Figures.of(
            [
                (life.died - life.struck).total_seconds()
                for life in self.lives
                if life.how in how and life.struck and life.died and not _napping(life)
            ]
        )

    def exit_codes(self) -> Counter[str]:
        """How workers ended that were asked to, or that ended by themselves."""
        return Counter(
            f"{life.process.returncode}{'' if _was_up(life) else ' (while starting)'}"
            for life in self.lives
            if life.how not in _DEATHS
        )

    def tracebacks(self) -> list[str]:
        """Logs with a traceback in them, and what it ended in."""
        return [
            f"{life.log.name}: {said}" for life in self.lives for said in _tracebacks(life.words())
        ]

    def alone(self) -> int:
        """Workers that ended although nobody had struck them."""
        return sum(life.how == "by itself" for life in self.lives)

    def plain(self) -> dict[str, Any]:
        """For `--json`: keys that stay."""
        found, (possible, wall) = self.findings, self.recovered()
        unaccounted = found.unaccounted + self.behind
        handed, handed_wall = self.handed_over()
        return {
            "expected": found.expected + self.behind,
            "accounted": found.expected - found.unaccounted,
            "unaccounted": unaccounted,
            "duplicates": found.duplicates,
            "stuck": found.stuck,
            "lost": found.again.get("lost", 0),
            "recovered": found.again.get("recovered", 0),
            "recovery_s": {"p50": possible.p50, "max": possible.max},
            "recovery_wall_s": {"p50": wall.p50, "max": wall.max},
            "handover_s": {"p50": handed.p50, "max": handed.max},
            "handover_wall_s": {"p50": handed_wall.p50, "max": handed_wall.max},
            "records": found.records.records,
            "prices": found.records.prices,
            "records_differ": found.records.total,
            "requeued": found.again.get("requeued", 0),
            "handed_over": found.again.get("handed_over", 0),
            "runs": found.runs,
            "outcomes": dict(found.outcomes),
            "blows": {blow.value: self.blows[blow] for blow in Blow},
            "ended_by_themselves": self.alone(),
            "tracebacks": len(self.tracebacks()),
            "idle_exit_s": {"max": self.exits({"idle SIGTERM"}).max},
            "rested_in_s": found.rested_in,
        }


def _tracebacks(words: Iterable[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    for said in words:
        text = str(said.get("exception") or said["event"])
        if "Traceback" in text or "Error" in text.split(":", 1)[0]:
            found.append(text.strip().splitlines()[-1][:200])
    return found


def _was_up(life: Life) -> bool:
    since = life.up_since()
    return since is not None and (life.struck is None or since < life.struck)


def _napping(life: Life) -> bool:
    """Was it asleep when it was told to go?"""
    if life.struck is None:
        return False
    return any(start <= life.struck <= stop for start, stop in life.naps)


def _awake(lives: Iterable[Life]) -> list[Span]:
    """When there was a worker that had started, was not asleep and had not been told to go."""
    spans: list[Span] = []
    for life in lives:
        since = life.up_since()
        until = life.struck or life.died or datetime.now(UTC)
        if since is None or since >= until:
            continue
        for start, stop in (*life.naps, (until, until)):
            if since < min(start, until):
                spans.append((since, min(start, until)))
            since = max(since, stop)
    return spans


def table(report: Report) -> Table:
    """One row for each figure; red where the promise is broken."""
    rows = Table(title="After the storm", title_justify="left", show_header=False)
    rows.add_column(no_wrap=True)
    rows.add_column()
    for name, value, bad in (*_promises(report), *_course(report), *_workers(report)):
        rows.add_row(name, str(value), style="bold red" if bad else None)
    return rows


Row = tuple[str, object, bool]


def _promises(report: Report) -> list[Row]:
    found, sums = report.findings, report.plain()
    differ = found.records
    return [
        ("ticks expected", sums["expected"], False),
        ("ticks accounted for", sums["accounted"], False),
        ("unaccounted", sums["unaccounted"], bool(sums["unaccounted"])),
        ("duplicates", found.duplicates, bool(found.duplicates)),
        ("stuck", found.stuck, bool(found.stuck)),
        ("records, prices", f"{differ.records}, {differ.prices}", False),
        ("records that differ", _listed(differ.total, differ.examples), bool(differ.total)),
    ]


def _course(report: Report) -> list[Row]:
    found, sums = report.findings, report.plain()
    return [
        ("blows", _counted({blow.value: count for blow, count in report.blows.items()}), False),
        ("outcomes", _counted(found.outcomes), False),
        ("runs", _counted(found.runs), False),
        ("runs lost / recovered", f"{sums['lost']} / {sums['recovered']}", False),
        ("handed over / queued again", f"{sums['handed_over']} / {sums['requeued']}", False),
        ("recovery after kill -9", _spoken(*report.recovered()), False),
        ("hand-over after SIGTERM", _spoken(*report.handed_over()), False),
        ("came to rest in", _seconds(found.rested_in), found.rested_in is None),
    ]


def _workers(report: Report) -> list[Row]:
    traced = report.tracebacks()
    return [
        ("exit after SIGTERM", _figures(report.exits(_DEPLOYS)), False),
        ("exit after SIGTERM when idle", _figures(report.exits({"idle SIGTERM"})), False),
        ("exit codes", _counted(report.exit_codes()), False),
        ("ended by themselves", report.alone(), bool(report.alone())),
        ("tracebacks in logs", _listed(len(traced), traced), bool(traced)),
    ]


def _counted(counts: "Counter[str] | dict[str, int]") -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _listed(count: int, examples: Sequence[str]) -> str:
    return "\n".join([str(count), *list(dict.fromkeys(examples))[:8]])


def _spoken(possible: Figures, wall: Figures) -> str:
    if not possible.count:
        return "none to measure"
    return f"{_figures(possible)} (waiting for servers or workers included: {_figures(wall)})"


def _figures(figures: Figures) -> str:
    if not figures.count:
        return "none to measure"
    return f"p50 {figures.p50} s, max {figures.max} s, of {figures.count}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
