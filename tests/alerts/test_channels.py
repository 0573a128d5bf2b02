"""An organisation's own alert channels: what is sent to each, how often, and to nobody else."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import requests
from arq.connections import ArqRedis
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from app.context import WorkerContext
from app.core.collection_keys import schedule_key
from app.core.config import Config
from app.core.enums import AlertSeverity
from app.health.alerts.watch import COLLECTIONS_KEY, AlertContext, check
from app.health.keys import write_jobs, write_worker
from app.orgs import admin, alert_channels, secrets, tokens
from app.orgs.alert_channels import ChannelRequest
from app.orgs.secret_box import SecretBox
from app.store import tenancy
from app.store.db import Pool
from app.store.orgs import alert_channels as store
from app.store.orgs import orgs
from app.store.orgs.alert_channels import StoredAlertChannel
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.alerts.watching import BEAT, facts
from tests.clock import NOON
from tests.configs import config_for
from workers.monitor import monitor
from workers.org_alerts import OrgAlertSender

SLACK, PAGER = "slack://A12345678/B12345678/" + "c" * 24, "pagerduty://" + "k" * 32 + "@" + "t" * 32


@dataclass(slots=True)
class Service:
    """What Apprise sent, instead of the network. `status`: what each request is answered with."""

    status: int = 200
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    def answer(self, request: requests.PreparedRequest) -> requests.Response:
        body = request.body if isinstance(request.body, (str, bytes)) else "{}"
        self.sent.append((request.url or "", json.loads(body)))
        response = requests.Response()
        response.status_code, response.request, response.url = (
            self.status,
            request,
            request.url or "",
        )
        response._content = b"ok"  # pyright: ignore[reportPrivateUsage] - as an adapter
        return response

    @property
    def text(self) -> str:
        return json.dumps(self.sent)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()

    def send(self: object, request: requests.PreparedRequest, **_: object) -> requests.Response:
        del self
        return made.answer(request)

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return made


@pytest.fixture
async def worker(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    await write_worker(redis, "w", 60, BEAT)
    await write_jobs(redis, [("poll", facts())])
    async with worker_harness.opened(config_for(dsn, redis_url, standin), redis) as opened:
        yield opened


async def collection(pool: Pool, org: UUID, name: str = "default") -> str:
    """An overdue collection that wants to be notified; returns its key."""
    key = schedule_key(org, name)
    await pool.execute(
        "INSERT INTO schedules (key, job, org_id, spec, policies, params, version, enabled, notify,"
        " effective_from, evaluated_through, next_tick_at, due_at) VALUES ($1, 'collection', $2,"
        " '{}', '{\"misfire_grace_seconds\": 1}', '{}', 1, true, true, now(), now(),"
        " now() - interval '1 hour', now() - interval '1 hour')",
        key,
        org,
    )
    return key


async def channel(
    worker: WorkerContext, org: UUID, url: str = SLACK, **filters: Any
) -> StoredAlertChannel:
    wanted = ChannelRequest("team", SecretStr(url), **filters)
    return await alert_channels.create(worker.pool, worker.config, org, wanted, "test", NOON)


async def watch(worker: WorkerContext) -> None:
    """One pass of alerting that looks at collections, and the delivery of what it queued."""
    await worker.redis.delete(COLLECTIONS_KEY)
    await check(AlertContext(worker.pool, worker.redis))
    await deliver(worker)


async def deliver(worker: WorkerContext) -> None:
    sender = OrgAlertSender()
    await sender.step(worker)
    assert not sender.tasks


async def recovered(pool: Pool) -> None:
    await pool.execute("UPDATE schedules SET due_at = now() + interval '1 hour'")


async def outcome(worker: WorkerContext, org: UUID) -> StoredAlertChannel:
    async with tenancy.org_transaction(worker.pool, org) as connection:
        (found,) = await store.all_of(connection, org)
    return found


async def test_the_monitor_delivers_what_waits_for_a_channel(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Acme", NOON)
    await channel(worker, org)
    await collection(worker.pool, org)
    await worker.redis.delete(COLLECTIONS_KEY)
    await check(AlertContext(worker.pool, worker.redis))
    waiting = len(service.sent)

    await monitor(worker_harness.ctx_of(worker) | {"org_alerts": OrgAlertSender()})

    assert (waiting, len(service.sent)) == (0, 1)


async def test_a_failure_a_reminder_and_a_recovery_come_once_each_to_the_own_channel_only(
    worker: WorkerContext, service: Service
) -> None:
    ours, theirs = [await tokens.create_org(worker.pool, n, NOON) for n in ("Ours", "Theirs")]
    await collection(worker.pool, ours, "nightly")
    await channel(worker, ours)
    await channel(worker, theirs, SLACK.replace("A1", "A9"))

    for _ in range(2):
        await watch(worker)
    await worker.pool.execute("UPDATE health_states SET told_at = told_at - interval '25 hours'")
    await worker.pool.execute("UPDATE health_states SET reminded_at = NULL")
    for _ in range(2):
        await watch(worker)
    await recovered(worker.pool)
    for _ in range(2):
        await watch(worker)

    urls = {url for url, _ in service.sent}
    titles = [sent["attachments"][0]["title"] for _, sent in service.sent]
    assert urls == {f"https://hooks.slack.com/services/{SLACK.removeprefix('slack://')}"}
    assert titles == [
        "[rollcall] collection:nightly is overdue",
        "[rollcall] collection:nightly is still unhealthy",
        "[rollcall] collection:nightly is healthy again",
    ]
    assert "Theirs" not in service.text
    assert (
        await worker.pool.fetchval("SELECT count(*) FROM notifications WHERE org_id IS NULL") == 0
    )
    severities = await worker.pool.fetch(
        "SELECT fields -> 'severity' ->> 'to' FROM changes WHERE kind = 'health' AND org_id = $1"
        " ORDER BY position, id",
        ours,
    )
    assert [row[0] for row in severities] == ["failure", "warning", "success"]


async def test_a_channel_gets_the_collections_and_severities_that_it_chose(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    for name in ("default", "nightly"):
        await collection(worker.pool, org, name)
    await channel(worker, org, collections=["nightly"])
    await channel(worker, org, SLACK.replace("B1", "B2"), severities=[AlertSeverity.SUCCESS])

    await watch(worker)
    failed = [*service.sent]
    await recovered(worker.pool)
    await watch(worker)

    assert len(failed) == 1
    assert "collection:nightly" in json.dumps(failed)
    assert "collection:default" not in json.dumps(failed)
    both = [json.dumps(sent) for url, sent in service.sent[1:] if "/B2" in url]
    assert len(both) == 1
    assert "2 are healthy again" in both[0]


async def test_an_incident_is_opened_and_closed_under_one_key_for_each_collection(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    for name in ("default", "nightly"):
        await collection(worker.pool, org, name)
    await channel(worker, org, PAGER, severities=[AlertSeverity.FAILURE])

    await watch(worker)
    await recovered(worker.pool)
    await watch(worker)

    result = [(sent["dedup_key"], sent["event_action"]) for _, sent in service.sent]
    assert sorted(result) == [
        (f"rollcall:collection:{name}", action)
        for name in ("default", "nightly")
        for action in ("resolve", "trigger")
    ]


async def test_a_paused_collection_is_not_said_to_be_healthy(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    await collection(worker.pool, org)
    await channel(worker, org)
    await watch(worker)
    await worker.pool.execute("UPDATE schedules SET paused_at = now()")
    await watch(worker)
    await worker.pool.execute("UPDATE schedules SET paused_at = NULL")
    await watch(worker)
    await worker.pool.execute("UPDATE schedules SET notify = false")
    await watch(worker)
    await watch(worker)

    titles = [sent["attachments"][0]["title"] for _, sent in service.sent]
    assert titles == [
        "[rollcall] collection:default is overdue",
        "[rollcall] collection:default is no longer unhealthy",
    ] * 2  # fmt: skip


async def test_what_the_service_refuses_waits_and_is_sent_later(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    await collection(worker.pool, org)
    await channel(worker, org)
    service.status = 500
    await watch(worker)
    refused = await outcome(worker, org)
    service.status = 200
    await worker.pool.execute("UPDATE notifications SET next_try_at = now()")
    await deliver(worker)

    sent = await outcome(worker, org)
    assert (refused.waiting, refused.last_sent_at) == (1, None)
    assert "slack" in str(refused.last_error)
    assert (sent.waiting, sent.last_error) == (0, None)
    assert sent.last_sent_at is not None


async def test_nothing_is_sent_for_an_organisation_while_it_is_disabled(
    worker: WorkerContext, service: Service
) -> None:
    org, other = [await tokens.create_org(worker.pool, n, NOON) for n in ("Ours", "Theirs")]
    for one in (org, other):
        await channel(worker, one)
        await collection(worker.pool, one)
    service.status = 500
    await watch(worker)
    service.sent.clear()
    service.status = 200
    await orgs.set_disabled(worker.pool, org, NOON)
    await worker.pool.execute("UPDATE notifications SET next_try_at = now()")

    await deliver(worker)
    while_disabled = len(service.sent)
    await orgs.set_disabled(worker.pool, org, None)
    await deliver(worker)

    assert (while_disabled, len(service.sent)) == (1, 2)  # the other organisation's at once
    assert (await outcome(worker, other)).last_error is None


async def test_alerts_of_days_ago_are_not_sent_when_their_organisation_is_enabled(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    await channel(worker, org)
    await collection(worker.pool, org)
    service.status = 500
    await watch(worker)
    service.sent.clear()
    service.status = 200
    await admin.disable(worker.pool, await admin.find(worker.pool, org), NOON)
    await worker.pool.execute(
        "UPDATE notifications SET next_try_at = now(), created_at = now() - interval '4 days'"
    )

    await admin.enable(worker.pool, await admin.find(worker.pool, org), NOON)
    await deliver(worker)

    assert service.sent == []
    assert (await outcome(worker, org)).waiting == 0


async def test_a_test_is_sent_once_and_given_up_when_it_fails(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    made = await channel(worker, org)
    service.status = 404
    async with tenancy.org_transaction(worker.pool, org) as connection:
        await alert_channels.enqueue_test(connection, org, made, NOON)
    await deliver(worker)
    await worker.pool.execute("UPDATE notifications SET next_try_at = now()")
    await deliver(worker)

    found = await outcome(worker, org)
    assert len(service.sent) == 1
    assert found.waiting == 0
    assert found.last_error


async def test_more_unhealthy_collections_than_one_message_has_are_all_told_and_stay_so(
    worker: WorkerContext, service: Service
) -> None:
    """With a limit, those beyond it were recorded as recovered as soon as another one failed."""
    orgs = [await tokens.create_org(worker.pool, f"Org {n:03}", NOON) for n in range(2)]
    for org in orgs:
        for number in range(300):
            await collection(worker.pool, org, f"c{number:03}")
    await channel(worker, orgs[0])

    await watch(worker)
    await collection(worker.pool, orgs[1], "another")
    await watch(worker)

    states = "SELECT count(*) FROM health_states WHERE ill AND key LIKE 'collection:%'"
    assert await worker.pool.fetchval(states) == 601
    assert len(service.sent) == 1
    assert "300 jobs are unhealthy" in service.text


async def test_the_urls_are_encrypted_and_follow_a_new_key(
    worker: WorkerContext, service: Service
) -> None:
    org = await tokens.create_org(worker.pool, "Ours", NOON)
    made = await channel(worker, org)
    old = worker.config
    new = old.model_copy(update={"secrets_key": SecretStr("b" * 43)})
    both = old.model_copy(update={"secrets_key": SecretStr(f"{'b' * 43},{_key(old)}")})
    stored = await worker.pool.fetchval("SELECT secret FROM alert_channels")

    assert SLACK.encode() not in stored
    assert await secrets.reseal(worker.pool, _box(both), NOON) == 1
    worker.config = new
    async with tenancy.org_transaction(worker.pool, org) as connection:
        await alert_channels.enqueue_test(connection, org, made, NOON)
    await deliver(worker)
    assert len(service.sent) == 1


def _key(config: Config) -> str:
    assert config.secrets_key is not None
    return config.secrets_key.get_secret_value()


def _box(config: Config) -> SecretBox:
    from app.orgs import secret_box  # noqa: PLC0415 - shadows nothing

    return secret_box.from_config(config)
