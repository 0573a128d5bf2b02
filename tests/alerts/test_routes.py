"""Alerts go to notifiers by job and severity, as ALERT_ROUTES says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.core import alert_routes
from app.core.config import Config
from app.core.enums import AlertSeverity
from app.health.alerts.send import Notifiers
from app.health.alerts.watcher import POSTGRES_INCIDENT
from app.health.keys import write_jobs, write_worker
from app.store.db import Pool
from tests.alerts.receiver import Receiver, receiving
from tests.alerts.watching import BEAT, config, facts, step, watcher

HOOK, PAGER = "json://hooks.example/a", "pagerduty://key@token"


def notifiers(routes: str, urls: str | None = None) -> Notifiers:
    every = None if urls is None else SecretStr(urls)
    return Notifiers.from_settings(every, SecretStr(routes))


def schemes(found: Notifiers, job: str, severity: AlertSeverity) -> list[str]:
    return sorted(name.partition("-")[0] for name in found.taking(job, severity))


def test_a_route_takes_jobs_by_pattern_and_severities_by_name() -> None:
    found = notifiers(f"poll_*,source:books failure,success {HOOK} ; * warning {PAGER}")

    assert schemes(found, "poll_news", AlertSeverity.FAILURE) == ["json"]
    assert schemes(found, "source:books", AlertSeverity.SUCCESS) == ["json"]
    assert schemes(found, "source:wares", AlertSeverity.FAILURE) == []
    assert schemes(found, "source:wares", AlertSeverity.WARNING) == ["pagerduty"]
    assert schemes(found, POSTGRES_INCIDENT, AlertSeverity.FAILURE) == []


def test_a_notifier_of_both_settings_gets_everything_once() -> None:
    found = notifiers(f"poll_* failure {HOOK}", urls=HOOK)

    assert schemes(found, "anything", AlertSeverity.WARNING) == ["json"]
    assert len(found.channels) == 1


def test_an_incident_is_closed_where_it_was_opened() -> None:
    found = notifiers(f"* failure {PAGER} ; * failure {HOOK}")

    assert schemes(found, "poll", AlertSeverity.SUCCESS) == ["pagerduty"]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("poll failure", "jobs severities URL"),
        ("json://a/b", "jobs severities URL"),
        ("poll * json://a/secret x", "jobs severities URL"),
        (", * json://a/secret", "jobs severities URL"),
        ("poll loud json://a/secret", "failure, warning, success"),
    ],
)
def test_a_wrong_route_is_named_without_its_url(setting: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as raised:
        alert_routes.parse(setting)

    assert "secret" not in str(raised.value)


def test_the_urls_are_redacted_and_the_words_are_not() -> None:
    hidden = Config(alert_routes=SecretStr(f"poll failure {PAGER}")).secrets()

    assert PAGER in hidden
    assert not {"poll", "failure"} & hidden


async def test_each_notifier_gets_its_jobs_alerts_and_recoveries(
    pool: Pool, redis: ArqRedis, dsn: str, redis_url: str, receiver: Receiver
) -> None:
    with receiving() as books:
        routes = f"poll * {receiver.url} ; source:* failure {books.url}"
        settings = config(dsn, redis_url, receiver).model_copy(
            update={"alert_urls": None, "alert_routes": SecretStr(routes)}
        )
        async with watcher(settings, pool, redis) as watching:
            await write_worker(redis, "w", 60, BEAT)
            for ran in (datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC)):
                jobs = [
                    (job, replace(facts(last_run=ran), job=job)) for job in ("poll", "source:books")
                ]
                await write_jobs(redis, jobs)
                await step(watching)

        assert [title.partition(" is ")[0] for title in receiver.titles] == ["[rollcall] poll"] * 2
        assert [title.partition(" is ")[0] for title in books.titles] == ["[rollcall] source:books"]
