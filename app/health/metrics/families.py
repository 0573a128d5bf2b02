"""The Prometheus metric families, built from the values read for one scrape. Pure.

Counters come from the totals in Postgres, everything else from the health facts in Redis.
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

from app.core.enums import JobStatus
from app.health.facts import CollectionFacts, JobFacts, RetryBudget, SystemFacts
from app.health.judge import HealthStatus
from app.store.reports.metrics import DURATIONS, LATENESSES, MetricTotal, QueueBacklog

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COLLECTION_LABEL = "collection"  # the value of the label `job` for all collections

# name in `metric_totals`: name of the metric, help text, labels
COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "runs": ("rollcall_runs", "Finished runs by status.", ("job", "status")),
    "ticks": (
        "rollcall_ticks",
        "Decided ticks by outcome and reason.",
        ("job", "outcome", "reason"),
    ),
    "records": ("rollcall_records", "Records by change.", ("source", "change")),
    "requests": (
        "rollcall_requests",
        "Requests by class of status code or kind of failure.",
        ("source", "class"),
    ),
    "throttled": (
        "rollcall_throttled_seconds",
        "Seconds for which requests waited for the rate limiter.",
        ("source",),
    ),
}
HISTOGRAMS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "duration": ("rollcall_run_duration_seconds", "Duration of runs.", DURATIONS),
    "lateness": ("rollcall_tick_lateness_seconds", "Delay from a tick to the start of its run.",
                 LATENESSES),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScrapeData:
    """What was read for one scrape. `totals` and `waiting` are None if Postgres did not answer.

    `stored_totals`: the totals last stored in Redis, used in that case. `open_breakers`: hosts
    with an open
    breaker. `retry_budgets`: of the hosts with retries in this hour. `month_used`: of the sources
    with `monthly_requests`. `queue_depths`: entries of each queue in Redis.
    """

    now: datetime
    jobs: Mapping[str, tuple[JobFacts, HealthStatus]]
    workers: int
    redis_up: bool
    totals: Sequence[MetricTotal] | None = None
    stored_totals: Sequence[MetricTotal] = ()
    waiting: QueueBacklog | None = None
    collections: CollectionFacts | None = None
    system: SystemFacts = field(default_factory=SystemFacts)
    open_breakers: Sequence[str] = ()
    retry_budgets: Sequence[RetryBudget] = ()
    monthly_requests: Mapping[str, int] = field(default_factory=dict[str, int])
    month_used: Mapping[str, int] | None = None
    queue_depths: Mapping[str, int] = field(default_factory=dict[str, int])


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(data: ScrapeData) -> bytes:
    """The body of `/metrics` in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(list(families(data))))
    return generate_latest(registry)


def families(data: ScrapeData) -> Iterator[Metric]:
    """Every metric, in a fixed order."""
    totals = data.stored_totals if data.totals is None else data.totals
    yield from _counters(totals)
    yield from _histograms(totals)
    yield from _system(data)
    yield from _jobs(data)
    yield from _queues(data)
    yield from _collections(data)


def _counters(totals: Iterable[MetricTotal]) -> Iterator[Metric]:
    by_name: defaultdict[str, list[MetricTotal]] = defaultdict(list)
    for total in totals:
        by_name[total.name].append(total)
    for name, (metric, about, labels) in COUNTERS.items():
        family = CounterMetricFamily(metric, about, labels=labels)
        for total in by_name[name]:
            values = (total.first, total.second, total.third)[: len(labels)]
            family.add_metric(values, total.value)
        yield family


def _histograms(totals: Sequence[MetricTotal]) -> Iterator[Metric]:
    for name, (metric, about, bounds) in HISTOGRAMS.items():
        family = HistogramMetricFamily(metric, about, labels=("job",))
        sums = {t.first: t.value for t in totals if t.name == f"{name}_sum"}
        for job, total in sorted(sums.items()):
            counts = {int(t.second): t.value for t in totals if t.name == name and t.first == job}
            family.add_metric((job,), _buckets(counts, bounds), total)
        yield family


def _buckets(counts: Mapping[int, float], bounds: Sequence[float]) -> list[tuple[str, float]]:
    cumulative, buckets = 0.0, list[tuple[str, float]]()
    for index, bound in enumerate((*bounds, float("inf"))):
        cumulative += counts.get(index, 0)
        buckets.append(("+Inf" if index == len(bounds) else str(bound), cumulative))
    return buckets


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"rollcall_{name}", about, value=value)


def _gauges(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=labels)


def _system(data: ScrapeData) -> Iterator[Metric]:
    yield _gauge("workers", "Live workers.", data.workers)
    yield _gauge("redis_up", "1 if Redis answered this scrape.", data.redis_up)
    yield _gauge("postgres_up", "1 if Postgres answered this scrape.", data.totals is not None)
    system = data.system
    if system.unaccounted is not None:
        about = "Ticks of the last day without an outcome."
        yield _gauge("unaccounted_ticks", about, system.unaccounted)
    yield _gauge("notifications_pending", "Alerts waiting to be sent.", system.pending or 0)
    failing = system.failing_since is not None
    yield _gauge("notifier_failing", "1 while alerts cannot be sent.", failing)
    resting = _gauges("rollcall_breaker_open", "Hosts with an open circuit breaker.", "host")
    for host in data.open_breakers:
        resting.add_metric((host,), 1)
    yield resting
    yield from _budgets(data)


def _budgets(data: ScrapeData) -> Iterator[Metric]:
    retries = _gauges("rollcall_retries", "Retries of a host in this hour.", "host")
    allowed = _gauges(
        "rollcall_retries_allowed", "Retries that a host may have in this hour.", "host"
    )
    for budget in data.retry_budgets:
        retries.add_metric((budget.host,), budget.used)
        allowed.add_metric((budget.host,), budget.allowed)
    used = _gauges(
        "rollcall_month_requests",
        "Requests of a source in this month, if MONTHLY_REQUESTS limits them.",
        "source",
    )
    limits = _gauges("rollcall_month_requests_allowed", "Its MONTHLY_REQUESTS.", "source")
    for source, limit in data.monthly_requests.items():
        limits.add_metric((source,), limit)
        if data.month_used is not None:
            used.add_metric((source,), data.month_used.get(source, 0))
    yield from (retries, allowed, used, limits)


def _jobs(data: ScrapeData) -> Iterator[Metric]:
    status = _gauges("rollcall_job_status", "1 for the current status of the job.", "job", "status")
    ill = _gauges("rollcall_job_ill", "1 for each job that needs attention.", "job", "reason")
    sources = _gauges(
        "rollcall_source_failing",
        "1 for each source for which a job needs attention.",
        "job",
        "source",
    )
    lag = _gauges(
        "rollcall_frontier_lag_seconds",
        "Seconds for which the next tick has been due and undecided.",
        "job",
    )
    last = _gauges(
        "rollcall_last_success_timestamp_seconds", "Unix time of the last successful run.", "job"
    )
    for key, (facts, health) in data.jobs.items():
        for value in JobStatus:
            status.add_metric((key, value), health.status is value)
        if health.needs_attention:
            ill.add_metric((key, health.reason or ""), 1)
        for source in health.sources:
            sources.add_metric((key, source), 1)
        if facts.upcoming is not None:
            lag.add_metric((key,), max((data.now - facts.upcoming).total_seconds(), 0.0))
        if facts.last_success is not None:
            last.add_metric((key,), facts.last_success.timestamp())
    if data.waiting is not None:
        lag.add_metric((COLLECTION_LABEL,), max(data.waiting.collections_lag, 0.0))
    yield from (status, ill, sources, lag, last)


def _queues(data: ScrapeData) -> Iterator[Metric]:
    depth = _gauges(
        "rollcall_queue_depth", "Entries of the queue, runs in progress included.", "queue"
    )
    for queue, entries in data.queue_depths.items():
        depth.add_metric((queue,), entries)
    yield depth
    if data.waiting is None:
        return
    runs = _gauges("rollcall_runs_waiting", "Runs that are due to start.", "queue")
    age = _gauges(
        "rollcall_queue_age_seconds",
        "Seconds for which the oldest waiting run has been due.",
        "queue",
    )
    held = _gauges(
        "rollcall_collections_unreadable",
        "Collections whose ticks are held, as their schedules cannot be read.",
    )
    held.add_metric((), data.waiting.held)
    runs.add_metric(("jobs",), data.waiting.jobs)
    runs.add_metric(("collections",), data.waiting.collections)
    age.add_metric(("jobs",), max(data.waiting.jobs_age, 0.0))
    age.add_metric(("collections",), max(data.waiting.collections_age, 0.0))
    yield from (runs, age, held)


def _collections(data: ScrapeData) -> Iterator[Metric]:
    family = _gauges("rollcall_collections", "Collections by status.", "status")
    facts = data.collections
    if facts is not None:
        for status in ("healthy", "overdue", "failing", "not_started", "paused"):
            family.add_metric((status,), getattr(facts, status))
    yield family
