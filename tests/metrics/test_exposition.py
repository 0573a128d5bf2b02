"""`/metrics`, read by Prometheus' own parser, with Postgres and without."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from arq.connections import ArqRedis
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.core.config import Config
from app.core.enums import RunStatus
from app.core.messages import HostLimits
from app.fetch.limiter import RedisLimiter
from app.health.facts import (
    CollectionFacts,
    JobFacts,
    RetryBudget,
    SourceFacts,
    SystemFacts,
    WorkerFacts,
)
from app.health.judge import judge
from app.health.keys import write_accounting, write_collections, write_jobs, write_worker
from app.health.metrics.families import COUNTERS, HISTOGRAMS, ScrapeData, families
from app.store.db import Pool
from app.store.reports.metrics import MetricTotal, QueueBacklog
from app.store.runs import source_usage
from app.store.runs.attempt_rows import RunEnding
from app.web.application import create_app
from tests import single_run
from tests.clock import SettableClock
from tests.configs import NO_POSTGRES
from tests.ledger.harness import Book, every
from tests.runs.harness import Desk
from tests.web.harness import visit

DOCS = Path(__file__).parents[2] / "docs"
NOW = datetime.now(UTC)


def config(dsn: str, redis_url: str, **more: Any) -> Config:
    return Config(database_url=SecretStr(dsn), redis_url=SecretStr(redis_url), **more)


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def sample(text: str, name: str, **labels: str) -> float | None:
    return next(
        (
            one.value
            for family in parsed(text).values()
            for one in family.samples
            if one.name == name and one.labels == labels
        ),
        None,
    )


async def test_what_happened_is_measured_and_still_told_when_postgres_is_down(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str
) -> None:
    clock = SettableClock(NOW)
    desk, book = Desk(pool, clock), Book(pool, clock)
    await single_run.finish(pool, await desk.begin(), RunEnding(RunStatus.SUCCESS, clock()))
    await book.open(every(1))
    await book.pause()
    clock.pass_by(minutes=2)
    await book.ring()
    await write_jobs(redis, [("job", JobFacts("job", interval_seconds=60))])
    await write_worker(redis, "w", 45, WorkerFacts(seen_at=NOW))
    await write_collections(redis, CollectionFacts(NOW, healthy=3))
    await write_accounting(redis, SystemFacts(unaccounted=0, checked_at=NOW))

    async with visit(create_app(config(dsn, redis_url))) as client:
        answer = await client.get("/metrics")
    async with visit(create_app(config(NO_POSTGRES, redis_url))) as client:
        without = await client.get("/metrics")

    for text in (answer.text, without.text):
        assert sample(text, "rollcall_runs_total", job="job", status="success") == 1
        paused = {"job": "scrape", "outcome": "skipped", "reason": "paused"}
        assert sample(text, "rollcall_ticks_total", **paused) == 2
        assert sample(text, "rollcall_run_duration_seconds_bucket", job="job", le="+Inf") == 1
        assert sample(text, "rollcall_workers") == 1
        assert sample(text, "rollcall_unaccounted_ticks") == 0
        assert sample(text, "rollcall_collections", status="healthy") == 3
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert sample(answer.text, "rollcall_postgres_up") == 1
    assert sample(without.text, "rollcall_postgres_up") == 0


async def test_budgets_of_hosts_and_of_sources_are_measured(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str
) -> None:
    limiter = RedisLimiter(redis)
    limits = HostLimits(rate=1_000, burst=100, concurrency=100)
    for again in (False, True, True):
        await limiter.acquire("shop.test:443", limits, again=again)
    await limiter.acquire("quiet.test:443", limits)
    await limiter.close()
    now: datetime = await pool.fetchval("SELECT now()")
    await source_usage.spend(pool, "asknews_news", 3, 800, now)
    limited = config(dsn, redis_url, monthly_requests={"asknews_news": 800, "asknews_stories": 600})

    async with visit(create_app(limited)) as client:
        text = (await client.get("/metrics")).text

    assert sample(text, "rollcall_retries", host="shop.test:443") == 2
    assert sample(text, "rollcall_retries_allowed", host="shop.test:443") == 10
    assert sample(text, "rollcall_retries", host="quiet.test:443") is None
    assert sample(text, "rollcall_month_requests", source="asknews_news") == 3
    assert sample(text, "rollcall_month_requests", source="asknews_stories") == 0
    assert sample(text, "rollcall_month_requests_allowed", source="asknews_stories") == 600


async def test_with_nothing_at_all_there_is_still_an_answer() -> None:
    async with visit(create_app(config(NO_POSTGRES, "redis://127.0.0.1:1/0"))) as client:
        answer = await client.get("/metrics")

    assert answer.status_code == 200
    assert sample(answer.text, "rollcall_redis_up") == 0
    assert sample(answer.text, "rollcall_workers") == 0


async def test_a_token_keeps_the_metrics_from_others() -> None:
    secret = config(NO_POSTGRES, "redis://127.0.0.1:1/0", metrics_token=SecretStr("s3cret"))

    async with visit(create_app(secret)) as client:
        stranger = await client.get("/metrics")
        prometheus = await client.get("/metrics", headers={"authorization": "Bearer s3cret"})

    assert (stranger.status_code, prometheus.status_code) == (401, 200)


def everything() -> Iterator[str]:
    """Every name that can ever be exposed."""
    totals = [MetricTotal(name, "a", "b", "c", 1) for name in COUNTERS]
    for name in HISTOGRAMS:
        totals += [MetricTotal(name, "a", "0", "", 1), MetricTotal(f"{name}_sum", "a", "", "", 1)]
    facts = JobFacts("a", last_success=NOW, next_run=NOW, registered_at=NOW, interval_seconds=1)
    ill = replace(facts, last_run=datetime(2020, 1, 1, tzinfo=UTC))
    dead = SourceFacts("x", (RunStatus.FAILURE,) * 3)
    partly = replace(facts, last_run=NOW, interval_seconds=60, sources=(dead,))
    seen = ScrapeData(
        now=NOW,
        jobs={"a": (ill, judge(ill, NOW)), "b": (partly, judge(partly, NOW))},
        workers=1,
        redis_up=True,
        totals=totals,
        waiting=QueueBacklog(0, 0, 0, 0, 0),
        collections=CollectionFacts(NOW),
        system=SystemFacts(unaccounted=0),
        open_breakers=["a"],
        retry_budgets=[RetryBudget("a", 1, 10)],
        monthly_requests={"a": 10},
        month_used={"a": 1},
        queue_depths={"arq": 0},
    )
    for family in families(seen):
        yield from (one.name for one in family.samples)


NAME = re.compile(r"\brollcall_[a-z0-9_]+")


@pytest.mark.parametrize("paper", ["alerts.yml", "grafana.json"])
def test_every_metric_that_the_papers_name_exists(paper: str) -> None:
    text = (DOCS / paper).read_text("utf-8")
    expressions = re.findall(r'expr"?: .*|\{\{.*?\}\}', text)

    named = {name for line in expressions for name in NAME.findall(line)}

    assert named
    assert named <= set(everything())


def test_the_rules_have_what_prometheus_wants_of_them() -> None:
    papers = yaml.safe_load((DOCS / "alerts.yml").read_text("utf-8"))

    rules = [rule for group in papers["groups"] for rule in group["rules"]]

    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "description"} <= set(rule["annotations"])
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        assert rule["expr"].count("(") == rule["expr"].count(")")
