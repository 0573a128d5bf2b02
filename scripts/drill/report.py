"""The report of a chaos run: a table for people, a JSON object for programs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from scripts.drill import recovery
from scripts.drill.judge import Findings
from scripts.drill.plan import Disruption
from scripts.drill.recovery import Figures, Termination
from scripts.drill.servers import Span
from scripts.drill.worker_processes import WorkerProcess

_DEATHS = {Disruption.KILL.value, Disruption.BLACKOUT.value}
_DEPLOYS = {Disruption.TERM.value, Disruption.DEPLOY.value}


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, the disruptions and the worker processes of a chaos run."""

    findings: Findings
    disruptions: Counter[Disruption]
    processes: Sequence[WorkerProcess]
    outages: Sequence[Span]
    undecided: int

    @property
    def sound(self) -> bool:
        """Whether the findings are sound, no tick is undecided and no run stayed open."""
        return self.findings.sound and not self.undecided and self.findings.drained_in is not None

    def recovered(self) -> tuple[Figures, Figures]:
        """Waits after kill -9, in seconds: with servers and a worker up, and in all."""
        waits = self._waits(_DEATHS)
        return Figures.of([w.possible for w in waits]), Figures.of([w.seconds for w in waits])

    def handed_over(self) -> tuple[Figures, Figures]:
        """The same after SIGTERM, the shutdown grace included."""
        waits = self._waits(_DEPLOYS)
        return Figures.of([w.possible for w in waits]), Figures.of([w.seconds for w in waits])

    def _waits(self, how: set[str]) -> list[recovery.Wait]:
        ends = [
            Termination(worker.pid, worker.signalled_at, worker.exited_at or datetime.now(UTC))
            for worker in self.processes
            if worker.how in how and worker.signalled_at is not None and not _was_frozen(worker)
        ]
        possible = recovery.available_seconds(_active(self.processes), self.outages)
        return recovery.waits(self.findings.events, ends, possible)

    def exits(self, how: set[str]) -> Figures:
        """Return the seconds from signal to exit of processes that ended in one of these ways."""
        return Figures.of(
            [
                (worker.exited_at - worker.signalled_at).total_seconds()
                for worker in self.processes
                if worker.how in how
                and worker.signalled_at
                and worker.exited_at
                and not _was_frozen(worker)
            ]
        )

    def exit_codes(self) -> Counter[str]:
        """Return the exit codes of workers that were not killed."""
        return Counter(
            f"{worker.process.returncode}{'' if _was_ready(worker) else ' (while starting)'}"
            for worker in self.processes
            if worker.how not in _DEATHS
        )

    def tracebacks(self) -> list[str]:
        """Return the last line of each traceback, with the name of its log."""
        return [
            f"{worker.log.name}: {error}"
            for worker in self.processes
            for error in _tracebacks(worker.log_events())
        ]

    def ended_by_themselves(self) -> int:
        """Return how many workers ended although no signal was sent to them."""
        return sum(worker.how == "by itself" for worker in self.processes)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints; its keys are stable."""
        found, (possible, wall) = self.findings, self.recovered()
        unaccounted = found.unaccounted + self.undecided
        handed, handed_wall = self.handed_over()
        return {
            "expected": found.expected + self.undecided,
            "accounted": found.expected - found.unaccounted,
            "unaccounted": unaccounted,
            "duplicates": found.duplicates,
            "stuck": found.stuck,
            "recount_faults": len(found.recounted),
            "lost": found.recovery_counts.get("lost", 0),
            "recovered": found.recovery_counts.get("recovered", 0),
            "recovery_s": {"p50": possible.p50, "max": possible.max},
            "recovery_wall_s": {"p50": wall.p50, "max": wall.max},
            "handover_s": {"p50": handed.p50, "max": handed.max},
            "handover_wall_s": {"p50": handed_wall.p50, "max": handed_wall.max},
            "records": found.records.records,
            "prices": found.records.prices,
            "records_differ": found.records.total,
            "requeued": found.recovery_counts.get("requeued", 0),
            "handed_over": found.recovery_counts.get("handed_over", 0),
            "runs": found.runs,
            "outcomes": dict(found.outcomes),
            "blows": {kind.value: self.disruptions[kind] for kind in Disruption},
            "ended_by_themselves": self.ended_by_themselves(),
            "tracebacks": len(self.tracebacks()),
            "idle_exit_s": {"max": self.exits({"idle SIGTERM"}).max},
            "rested_in_s": found.drained_in,
        }


def _tracebacks(events: Iterable[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    for event in events:
        text = str(event.get("exception") or event["event"])
        if "Traceback" in text or "Error" in text.split(":", 1)[0]:
            found.append(text.strip().splitlines()[-1][:200])
    return found


def _was_ready(worker: WorkerProcess) -> bool:
    since = worker.ready_at()
    return since is not None and (worker.signalled_at is None or since < worker.signalled_at)


def _was_frozen(worker: WorkerProcess) -> bool:
    """Return whether it was frozen when it was signalled."""
    if worker.signalled_at is None:
        return False
    return any(start <= worker.signalled_at <= stop for start, stop in worker.freezes)


def _active(processes: Iterable[WorkerProcess]) -> list[Span]:
    """Return the spans in which a worker was ready, not frozen and not yet signalled."""
    spans: list[Span] = []
    for worker in processes:
        since = worker.ready_at()
        until = worker.signalled_at or worker.exited_at or datetime.now(UTC)
        if since is None or since >= until:
            continue
        for start, stop in (*worker.freezes, (until, until)):
            if since < min(start, until):
                spans.append((since, min(start, until)))
            since = max(since, stop)
    return spans


def table(report: Report) -> Table:
    """Return the table of figures; a row is red where a guarantee is broken."""
    rows = Table(title="After the chaos run", title_justify="left", show_header=False)
    rows.add_column(no_wrap=True)
    rows.add_column()
    for name, value, bad in (*_guarantees(report), *_progress(report), *_workers(report)):
        rows.add_row(name, str(value), style="bold red" if bad else None)
    return rows


Row = tuple[str, object, bool]


def _guarantees(report: Report) -> list[Row]:
    found, sums = report.findings, report.as_json()
    differ = found.records
    return [
        ("ticks expected", sums["expected"], False),
        ("ticks accounted for", sums["accounted"], False),
        ("unaccounted", sums["unaccounted"], bool(sums["unaccounted"])),
        ("duplicates", found.duplicates, bool(found.duplicates)),
        ("stuck", found.stuck, bool(found.stuck)),
        (
            "faults by the recount",
            _list_text(len(found.recounted), found.recounted),
            bool(found.recounted),
        ),
        ("records, prices", f"{differ.records}, {differ.prices}", False),
        ("records that differ", _list_text(differ.total, differ.examples), bool(differ.total)),
    ]


def _progress(report: Report) -> list[Row]:
    found, sums = report.findings, report.as_json()
    return [
        (
            "disruptions",
            _counts_text({kind.value: count for kind, count in report.disruptions.items()}),
            False,
        ),
        ("outcomes", _counts_text(found.outcomes), False),
        ("runs", _counts_text(found.runs), False),
        ("runs lost / recovered", f"{sums['lost']} / {sums['recovered']}", False),
        ("handed over / queued again", f"{sums['handed_over']} / {sums['requeued']}", False),
        ("recovery after kill -9", _wait_text(*report.recovered()), False),
        ("hand-over after SIGTERM", _wait_text(*report.handed_over()), False),
        ("drained in", _seconds_text(found.drained_in), found.drained_in is None),
    ]


def _workers(report: Report) -> list[Row]:
    traced = report.tracebacks()
    return [
        ("exit after SIGTERM", _figures_text(report.exits(_DEPLOYS)), False),
        ("exit after SIGTERM when idle", _figures_text(report.exits({"idle SIGTERM"})), False),
        ("exit codes", _counts_text(report.exit_codes()), False),
        ("ended by themselves", report.ended_by_themselves(), bool(report.ended_by_themselves())),
        ("tracebacks in logs", _list_text(len(traced), traced), bool(traced)),
    ]


def _counts_text(counts: "Counter[str] | dict[str, int]") -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _list_text(count: int, examples: Sequence[str]) -> str:
    return "\n".join([str(count), *list(dict.fromkeys(examples))[:8]])


def _wait_text(possible: Figures, wall: Figures) -> str:
    if not possible.count:
        return "none to measure"
    return f"{_figures_text(possible)} (with waits for servers or workers: {_figures_text(wall)})"


def _figures_text(figures: Figures) -> str:
    if not figures.count:
        return "none to measure"
    return f"p50 {figures.p50} s, max {figures.max} s, of {figures.count}"


def _seconds_text(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
