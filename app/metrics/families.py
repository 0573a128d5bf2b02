"""What is measured, as Prometheus wants it: from what was read just now, never from memory. Pure.

Counters come from the totals in Postgres; everything else from the health facts in Redis.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from app.health.facts import CollectionFacts, HouseFacts, JobFacts
from app.health.judge import Verdict
from app.store.metrics import DURATIONS, LATENESSES, Total, Waiting
from app.words import JobStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COLLECTION = "collection"  # the one label of all collections

# name of the totals: name of the metric, what it says, its labels
COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "runs": ("rollcall_runs", "Runs that ended, by how.", ("job", "status")),
    "ticks": ("rollcall_ticks", "Ticks by what became of them.", ("job", "outcome", "reason")),
    "records": ("rollcall_records", "Records by what was done with them.", ("source", "change")),
    "requests": (
        "rollcall_requests",
        "Requests by what came of them: a class of status, or a kind of failure.",
        ("source", "class"),
    ),
    "throttled": (
        "rollcall_throttled_seconds",
        "Seconds that requests waited for their site's limits.",
        ("source",),
    ),
}
HISTOGRAMS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "duration": ("rollcall_run_duration_seconds", "How long runs took.", DURATIONS),
    "lateness": ("rollcall_tick_lateness_seconds", "How long after its tick a run began.",
                 LATENESSES),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read for one scrape. `totals` and `waiting` are None if Postgres did not answer.

    `kept`: the totals that Redis remembers for that case. `resting`: hosts with an open breaker.
    `depth`: entries of each queue in Redis.
    """

    now: datetime
    jobs: Mapping[str, tuple[JobFacts, Verdict]]
    workers: int
    redis_up: bool
    totals: Sequence[Total] | None = None
    kept: Sequence[Total] = ()
    waiting: Waiting | None = None
    collections: CollectionFacts | None = None
    house: HouseFacts = field(default_factory=HouseFacts)
    resting: Sequence[str] = ()
    depth: Mapping[str, int] = field(default_factory=dict[str, int])


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(seen: Seen) -> bytes:
    """The body of `/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(list(families(seen))))
    return generate_latest(registry)


def families(seen: Seen) -> Iterator[Metric]:
    """Every metric, in a fixed order."""
    totals = seen.kept if seen.totals is None else seen.totals
    yield from _counters(totals)
    yield from _histograms(totals)
    yield from _house(seen)
    yield from _jobs(seen)
    yield from _queues(seen)
    yield from _collections(seen)


def _counters(totals: Iterable[Total]) -> Iterator[Metric]:
    by_name: defaultdict[str, list[Total]] = defaultdict(list)
    for total in totals:
        by_name[total.name].append(total)
    for name, (metric, about, labels) in COUNTERS.items():
        family = CounterMetricFamily(metric, about, labels=labels)
        for total in by_name[name]:
            values = (total.first, total.second, total.third)[: len(labels)]
            family.add_metric(values, total.value)
        yield family


def _histograms(totals: Sequence[Total]) -> Iterator[Metric]:
    for name, (metric, about, bounds) in HISTOGRAMS.items():
        family = HistogramMetricFamily(metric, about, labels=("job",))
        sums = {t.first: t.value for t in totals if t.name == f"{name}_sum"}
        for job, total in sorted(sums.items()):
            counts = {int(t.second): t.value for t in totals if t.name == name and t.first == job}
            family.add_metric((job,), _buckets(counts, bounds), total)
        yield family


def _buckets(counts: Mapping[int, float], bounds: Sequence[float]) -> list[tuple[str, float]]:
    so_far, buckets = 0.0, list[tuple[str, float]]()
    for index, bound in enumerate((*bounds, float("inf"))):
        so_far += counts.get(index, 0)
        buckets.append(("+Inf" if index == len(bounds) else str(bound), so_far))
    return buckets


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rollcall_{name}", about, value=value)


def _house(seen: Seen) -> Iterator[Metric]:
    yield _gauge("workers", "Workers that beat.", seen.workers)
    yield _gauge("redis_up", "Whether Redis answered.", seen.redis_up)
    yield _gauge("postgres_up", "Whether Postgres answered.", seen.totals is not None)
    house = seen.house
    if house.unaccounted is not None:
        about = "Ticks of the last day that have no outcome."
        yield _gauge("unaccounted_ticks", about, house.unaccounted)
    yield _gauge("notifications_pending", "Alerts that wait to be sent.", house.pending or 0)
    failing = house.failing_since is not None
    yield _gauge("notifier_failing", "Whether no alert can be sent.", failing)
    resting = GaugeMetricFamily(
        "rollcall_breaker_open", "Hosts that are left alone for a while.", labels=("host",)
    )
    for host in seen.resting:
        resting.add_metric((host,), 1)
    yield resting


def _jobs(seen: Seen) -> Iterator[Metric]:
    status = GaugeMetricFamily(
        "rollcall_job_status", "1 for how the job stands now.", labels=("job", "status")
    )
    ill = GaugeMetricFamily(
        "rollcall_job_ill", "1 for each job that needs a look.", labels=("job", "reason")
    )
    lag = GaugeMetricFamily(
        "rollcall_frontier_lag_seconds",
        "Seconds by which the next tick is overdue for a decision.",
        labels=("job",),
    )
    last = GaugeMetricFamily(
        "rollcall_last_success_timestamp_seconds", "When a run last succeeded.", labels=("job",)
    )
    for key, (facts, verdict) in seen.jobs.items():
        for word in JobStatus:
            status.add_metric((key, word), verdict.status is word)
        if verdict.ill:
            ill.add_metric((key, verdict.reason or ""), 1)
        if facts.next_run is not None and facts.enabled and facts.paused_at is None:
            lag.add_metric((key,), max((seen.now - facts.next_run).total_seconds(), 0.0))
        if facts.last_success is not None:
            last.add_metric((key,), facts.last_success.timestamp())
    if seen.waiting is not None:
        lag.add_metric((COLLECTION,), max(seen.waiting.collections_lag, 0.0))
    yield from (status, ill, lag, last)


def _queues(seen: Seen) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "rollcall_queue_depth", "Entries of the queue, those under way included.",
        labels=("queue",),
    )  # fmt: skip
    for queue, entries in seen.depth.items():
        depth.add_metric((queue,), entries)
    yield depth
    if seen.waiting is None:
        return
    runs = GaugeMetricFamily("rollcall_runs_waiting", "Runs that may start now.", labels=("queue",))
    age = GaugeMetricFamily(
        "rollcall_queue_age_seconds", "For how long the oldest of them has.", labels=("queue",)
    )
    runs.add_metric(("jobs",), seen.waiting.jobs)
    runs.add_metric(("collections",), seen.waiting.collections)
    age.add_metric(("jobs",), max(seen.waiting.jobs_age, 0.0))
    age.add_metric(("collections",), max(seen.waiting.collections_age, 0.0))
    yield from (runs, age)


def _collections(seen: Seen) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "rollcall_collections", "Collections by how they stand.", labels=("status",)
    )
    known = seen.collections
    if known is not None:
        for status in ("healthy", "overdue", "failing", "not_started", "paused"):
            family.add_metric((status,), getattr(known, status))
    yield family
