"""Notifiers that track incidents, as their services get it: opened, reminded and closed by job."""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any, cast

import pytest
from apprise.manager_plugins import NotificationManager
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.core.alert_message import AlertMessage
from app.core.config import Config
from app.core.enums import AlertSeverity
from app.health.alerts.send import INCIDENT_KEYS, Notifiers
from app.health.facts import WorkerFacts
from app.health.keys import write_jobs, write_worker
from app.store.db import Pool
from tests.alerts.receiver import Receiver
from tests.alerts.watching import config, facts, silent, step, watcher

REMIND_ALWAYS = 1e-6  # hours


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """The services' APIs are at the receiver, each below a path of its own."""
    receiver.body = b'{"requestId": "43a29c5c"}'
    for name, table in (
        ("pagerduty", "PAGERDUTY_API_LOOKUP"),
        ("opsgenie", "OPSGENIE_API_LOOKUP"),
        ("jira", "JIRA_API_LOOKUP"),
    ):
        module = import_module(f"apprise.plugins.{name}")
        monkeypatch.setattr(module, table, {"us": f"{receiver.http}/{name}"})
    monkeypatch.setattr("apprise.plugins.base.NotifyBase.request_rate_per_sec", 0)


def settings(dsn: str, redis_url: str, receiver: Receiver, url: str, **changes: Any) -> Config:
    made = config(dsn, redis_url, receiver, alert_remind_hours=REMIND_ALWAYS, **changes)
    return made.model_copy(update={"alert_urls": SecretStr(url)})


async def live_through(pool: Pool, redis: ArqRedis, chosen: Config) -> None:
    """Two jobs fall silent together, are reminded of, and recover one after the other."""
    await write_worker(redis, "w", 60, WorkerFacts(seen_at=datetime.now(UTC)))
    async with watcher(chosen, pool, redis) as watching:
        await write_jobs(redis, [("poll", silent()), ("source:shop", silent())])
        await step(watching)
        await step(watching)  # the reminders
        await write_jobs(redis, [("poll", facts())])
        await step(watching)
        await write_jobs(redis, [("source:shop", facts())])
        await step(watching)


async def test_pagerduty_has_an_incident_of_each_job_which_its_recovery_resolves(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    await live_through(
        pool, redis, settings(dsn, redis_url, receiver, "pagerduty://routing@apikey")
    )

    events = [
        (m["event_action"], m["dedup_key"], m.get("payload", {}).get("severity"))
        for m in receiver.messages
    ]
    assert events[:2] == [
        ("trigger", "rollcall:poll", "critical"),
        ("trigger", "rollcall:source:shop", "critical"),
    ]
    assert ("trigger", "rollcall:poll", "warning") in events
    resolved = [key for action, key, _ in events if action == "resolve"]
    assert resolved == ["rollcall:poll", "rollcall:source:shop"]
    first = receiver.messages[0]["payload"]["summary"]
    assert first.startswith("[rollcall] poll is overdue")


@pytest.mark.parametrize("scheme", ["opsgenie", "jira"])
async def test_opsgenie_and_jira_close_the_alert_that_another_process_opened(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver, scheme: str
) -> None:
    await live_through(pool, redis, settings(dsn, redis_url, receiver, f"{scheme}://apikey"))

    sent = list(zip(receiver.posted, receiver.messages, strict=True))
    opened = [(m["alias"], m["details"]["type"]) for path, m in sent if path == f"/{scheme}"]
    assert opened[:2] == [("rollcall:poll", "failure"), ("rollcall:source:shop", "failure")]
    assert ("rollcall:poll", "warning") in opened
    closed = [path for path in receiver.posted if "/close" in path]
    assert closed == [
        f"/{scheme}/rollcall%3Apoll/close?identifierType=alias",
        f"/{scheme}/rollcall%3Asource%3Ashop/close?identifierType=alias",
    ]
    assert sent[receiver.posted.index(closed[0])][1]["note"].startswith("Recovered:")


async def test_a_recovery_waits_until_its_problem_was_delivered(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    chosen = settings(dsn, redis_url, receiver, "pagerduty://routing@apikey")
    await write_worker(redis, "w", 60, WorkerFacts(seen_at=datetime.now(UTC)))
    receiver.status = 500
    async with watcher(chosen, pool, redis) as watching:
        await write_jobs(redis, [("poll", silent())])
        await step(watching)
        receiver.status = 200
        await write_jobs(redis, [("poll", facts())])
        await step(watching)
        before = list(receiver.messages)
        await pool.execute("UPDATE notifications SET next_try_at = now()")
        await step(watching)

    assert before == []
    actions = [message["event_action"] for message in receiver.messages]
    assert (actions[0], actions[-1]) == ("trigger", "resolve")


async def test_an_operator_who_chooses_key_and_action_keeps_them(
    pool: Pool, dsn: str, redis: ArqRedis, redis_url: str, receiver: Receiver
) -> None:
    url = "pagerduty://routing@apikey?action=trigger&dedup=mine"

    await live_through(pool, redis, settings(dsn, redis_url, receiver, url))

    result = {(m["event_action"], m["dedup_key"]) for m in receiver.messages}
    assert result == {("trigger", "mine")}


def schemes(declared: str | tuple[str, ...] | None) -> set[str]:
    return {declared} if isinstance(declared, str) else set(declared or ())


def test_every_notifier_that_closes_incidents_by_severity_is_known() -> None:
    known: set[str] = set()
    plugins: list[Any] = list(cast("Any", NotificationManager()).plugins())
    for plugin in plugins:
        arguments: dict[str, Any] = plugin.template_args
        if "map" in arguments.get("action", {}).get("values", ()):
            found = schemes(plugin.protocol) | schemes(plugin.secure_protocol)
            assert all(INCIDENT_KEYS[scheme] in arguments for scheme in found)
            known |= found

    assert known == set(INCIDENT_KEYS)


async def test_the_next_message_may_follow_at_once(receiver: Receiver) -> None:
    url = SecretStr(f"json://{receiver.http.removeprefix('http://')}/")
    notifiers = Notifiers.from_settings(url)
    (channel,) = notifiers.urls
    message = AlertMessage("title", "body", AlertSeverity.WARNING)

    errors = [await notifiers.send(channel, message) for _ in range(60)]

    assert [error for error in errors if error is not None] == []
    assert len(receiver.messages) == 60
