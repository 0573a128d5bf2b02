"""Each change is delivered once with one id, or undelivered with the reason."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.core.errors import Conflict, InvalidValue
from app.core.records import Item
from app.orgs import secret_box, secrets, tokens, webhook_signature
from app.orgs import webhooks as hooks
from app.store import tenancy
from app.store.content import items, partitions
from app.store.content.changes import NOT_KEPT
from app.store.db import Pool
from app.store.orgs import orgs
from app.store.orgs import webhooks as store
from app.store.orgs.webhooks import ClaimedDelivery, DeliveryAccount
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.clock import NOON
from tests.configs import SECRETS_KEY, config_for
from tests.horizon import settled
from tests.wait import until
from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import HANG, NO_BODY, Receiver
from workers import webhooks
from workers.webhooks import RETRY_DELAYS, deliver_webhooks

NOW_DUE = "UPDATE webhook_deliveries SET next_try_at = now() WHERE state = 'waiting'"


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receivers.receiving() as opened:
        yield opened


@pytest.fixture
async def worker(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    config = config_for(dsn, redis_url, standin, guard_allow=("127.0.0.1",))
    async with worker_harness.opened(config, redis) as opened:
        yield opened


async def with_webhook(
    worker: WorkerContext, url: str, name: str = "Acme"
) -> tuple[UUID, UUID, str]:
    """An organisation with a webhook; returns both ids and the secret."""
    org = await tokens.create_org(worker.pool, name, NOON)
    made = await hooks.create(worker.pool, worker.config, org, url, "test", NOON)
    return org, *made


async def collect(worker: WorkerContext, org: UUID, *keys: str, n: int = 0) -> None:
    async with tenancy.org_transaction(worker.pool, org) as connection:
        page = [Item("shop", key, {"n": n}) for key in keys]
        at = NOON + timedelta(minutes=n)
        await items.write(connection, org, "shop", page, at, uuid4())


async def deliver(worker: WorkerContext) -> None:
    """One step of a worker, once nobody else's transaction is open."""
    await settled(worker.pool)
    async with asyncio.timeout(60):
        await deliver_webhooks(worker_harness.ctx_of(worker))


async def account(worker: WorkerContext) -> DeliveryAccount:
    (found,) = await store.account(worker.pool)
    return found


def keys_of(receiver: Receiver, path: str = "/in") -> list[str]:
    """The keys of the changes that came, once for each message id."""
    first = {message.id: message for message in reversed(receiver.of(path))}
    ordered = sorted(first.values(), key=lambda m: m.data["timestamp"])
    return [change["key"] for message in ordered for change in message.data["data"]["changes"]]


async def test_changes_are_delivered_signed_and_in_order(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, _, secret = await with_webhook(worker, receiver.url())
    await collect(worker, org, *(f"k{number:03}" for number in range(250)))

    await deliver(worker)

    assert [m.data["type"] for m in receiver.of()] == ["changes"] * 3
    assert keys_of(receiver) == [f"k{number:03}" for number in range(250)]
    assert all(message.signed_with(secret) for message in receiver.of())
    assert len({message.id for message in receiver.of()}) == 3
    assert await account(worker) == DeliveryAccount(
        (await account(worker)).webhook_id, 250, {}, 0, 0
    )


async def test_what_was_before_its_creation_is_not_delivered(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org = await tokens.create_org(worker.pool, "Acme", NOON)
    await collect(worker, org, "before")
    await settled(worker.pool)  # what is open when it is created is delivered, too
    await hooks.create(worker.pool, worker.config, org, receiver.url(), "test", NOON)
    await collect(worker, org, "after")

    await deliver(worker)

    assert keys_of(receiver) == ["after"]


async def test_a_failure_is_tried_again_later_with_the_same_id_and_body(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, _, secret = await with_webhook(worker, receiver.url())
    receiver.answers["/in"] = [500, 302]
    await collect(worker, org, "a")

    await deliver(worker)
    await collect(worker, org, "b")
    await deliver(worker)  # not due yet, and "b" waits behind "a"
    tried = len(receiver.of())
    for _ in range(2):
        await worker.pool.execute(NOW_DUE)
        await deliver(worker)

    first = receiver.of()[:3]
    assert tried == 1
    assert len({(message.id, message.body) for message in first}) == 1
    assert all(message.signed_with(secret) for message in receiver.of())
    assert keys_of(receiver) == ["a", "b"]


async def test_after_the_last_attempt_it_is_undelivered_with_the_reason_and_the_webhook_rests(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, webhook, _ = await with_webhook(worker, receiver.url())
    receiver.always["/in"] = 503
    await collect(worker, org, "a", "b")
    for _ in range(len(RETRY_DELAYS) + 1):
        await deliver(worker)
        await worker.pool.execute(NOW_DUE)
    await collect(worker, org, "c")
    await deliver(worker)

    given_up = await account(worker)
    receiver.always.clear()
    async with tenancy.org_transaction(worker.pool, org) as connection:
        paused = await store.one(connection, org, webhook)
        await store.resume(connection, org, webhook)
    await deliver(worker)

    assert given_up.undelivered == {"the receiver answered 503": 2}
    assert (given_up.delivered, given_up.waiting, given_up.unaccounted) == (0, 0, 0)
    assert paused is not None
    assert "503" in (paused.paused_reason or "")
    assert receiver.of()[-1].data["data"]["changes"][0]["key"] == "c"
    assert (await account(worker)).delivered == 1


async def test_a_delivery_may_end_while_others_are_claimed(
    worker: WorkerContext, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    org, _, _ = await with_webhook(worker, receiver.url())
    receiver.always["/in"] = 503
    await collect(worker, org, "a")
    await deliver(worker)
    receiver.always.clear()
    await worker.pool.execute(NOW_DUE)
    ctx, claim = worker_harness.ctx_of(worker), store.claim
    sender = ctx["sender"] = webhooks.Sender()

    async def slow_claim(pool: Pool, most: int, *, retries: bool) -> list[ClaimedDelivery]:
        while sender.under_way:  # noqa: ASYNC110 - until what was claimed before has ended
            await asyncio.sleep(0.01)
        return await claim(pool, most, retries=retries)

    monkeypatch.setattr(store, "claim", slow_claim)
    await deliver_webhooks(ctx)

    assert (await account(worker)).delivered == 1


async def test_failed_deliveries_have_half_of_the_slots_and_the_others_are_for_new_ones(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, failed, _ = await with_webhook(worker, receiver.url("/again"), "Again")
    receiver.answers["/again"] = [500]
    await collect(worker, org, "a")
    await deliver(worker)
    await worker.pool.execute(NOW_DUE)
    other, _, _ = await with_webhook(worker, receiver.url("/new"), "New")
    await collect(worker, other, "b")
    await settled(worker.pool)
    hanging = {asyncio.create_task(asyncio.sleep(60)) for _ in range(webhooks.MAX_CONCURRENT // 2)}
    sender = webhooks.Sender(retries=set(hanging))

    step = asyncio.create_task(deliver_webhooks(worker_harness.ctx_of(worker) | {"sender": sender}))
    await until(lambda: _came(receiver, "/new"), what="the new delivery")
    step.cancel()
    await asyncio.wait([step])
    await sender.close()

    attempts = "SELECT attempts FROM webhook_deliveries WHERE webhook_id = $1"
    assert await worker.pool.fetchval(attempts, failed) == 1


async def _came(receiver: Receiver, path: str) -> bool:
    return bool(receiver.of(path))


async def test_gone_pauses_at_once(worker: WorkerContext, receiver: Receiver) -> None:
    org, _, _ = await with_webhook(worker, receiver.url())
    receiver.always["/in"] = 410
    await collect(worker, org, "a")

    await deliver(worker)
    await collect(worker, org, "b")
    await deliver(worker)

    assert len(receiver.of()) == 1
    assert (await account(worker)).undelivered == {"the receiver answered 410": 1}


async def test_a_replay_sends_again_with_the_ids_that_they_had(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, webhook, _ = await with_webhook(worker, receiver.url())
    await collect(worker, org, "a")
    await deliver(worker)
    await collect(worker, org, "b")
    await deliver(worker)
    place = receiver.of()[0].data["data"]["changes"][-1]["id"]
    position, _, number = place.partition(".")

    async with tenancy.org_transaction(worker.pool, org) as connection:
        count = await store.replay(connection, org, webhook, (int(position), int(number)))
    await deliver(worker)

    assert count == 1
    assert [message.id for message in receiver.of()][1:] == [receiver.of()[1].id] * 2
    assert (await account(worker)).delivered == 2


async def ask_for_test(worker: WorkerContext, org: UUID, webhook: UUID) -> str:
    """Ask for a test; returns the id of its message."""
    delivery = uuid4()
    async with tenancy.org_transaction(worker.pool, org) as connection:
        await store.add_test(connection, org, webhook, delivery)
    return f"msg_{delivery.hex}"


async def test_a_test_is_signed_as_any_other_and_counts_for_nothing(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, webhook, secret = await with_webhook(worker, receiver.url())
    sent = await ask_for_test(worker, org, webhook)

    await deliver(worker)

    (message,) = receiver.of()
    assert (message.id, message.data["type"]) == (sent, "test")
    assert message.signed_with(secret)
    assert (await account(worker)).delivered == 0


async def test_a_test_waits_for_neither_a_pause_nor_what_is_to_be_tried_again(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, webhook, _ = await with_webhook(worker, receiver.url())
    receiver.answers["/in"] = [500]
    await collect(worker, org, "a")
    await deliver(worker)
    sent = [await ask_for_test(worker, org, webhook)]
    await deliver(worker)
    async with tenancy.org_transaction(worker.pool, org) as connection:
        await store.pause(connection, org, webhook, NOON, "moving")
    sent.append(await ask_for_test(worker, org, webhook))

    await deliver(worker)

    assert [message.id for message in receiver.of()][1:] == sent
    assert await state_of(worker, org, webhook) == ("waiting", True, 1)


async def test_a_test_is_sent_once_and_its_failure_neither_pauses_nor_delays(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, webhook, _ = await with_webhook(worker, receiver.url())
    receiver.answers["/in"] = [410]
    await ask_for_test(worker, org, webhook)
    await deliver(worker)
    await collect(worker, org, "a")

    await deliver(worker)

    assert [message.data["type"] for message in receiver.of()] == ["test", "changes"]
    assert await state_of(worker, org, webhook) == ("delivered", False, 0)


async def state_of(worker: WorkerContext, org: UUID, webhook: UUID) -> tuple[str, bool, int]:
    """The state of its delivery of changes, whether the webhook is paused, how many wait."""
    async with tenancy.org_transaction(worker.pool, org) as connection:
        found = await store.one(connection, org, webhook)
        listed = await store.deliveries(connection, (org, webhook), None, None, 10)
    assert found is not None
    (state,) = [one["state"] for one in listed if one["count"]]
    return state, found.paused_at is not None, found.waiting


async def test_receivers_that_hang_do_not_delay_the_others(
    worker: WorkerContext, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(webhooks, "MAX_CONCURRENT", 8)
    orgs: list[UUID] = []
    for number in range(16):
        path = f"/hang{number}" if number < 4 else f"/ok{number}"
        org, _, _ = await with_webhook(worker, receiver.url(path), f"Org {number}")
        receiver.always[path] = HANG if number < 4 else 200
        orgs.append(org)
    for org in orgs:
        await collect(worker, org, "a")
    await deliver(worker)
    for org in orgs:
        await collect(worker, org, "b")
    await worker.pool.execute(NOW_DUE)  # those that hang are due again, before the others

    await deliver(worker)

    for number in range(4, 16):
        assert keys_of(receiver, f"/ok{number}") == ["a", "b"]
    hanging = await worker.pool.fetch(
        "SELECT reason FROM webhook_deliveries WHERE state = 'waiting'"
    )
    assert len(hanging) == 4
    assert all("no response in time" in row["reason"] for row in hanging)


async def test_two_workers_send_each_change_in_one_message(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, _, _ = await with_webhook(worker, receiver.url())
    contexts = [worker_harness.ctx_of(worker) for _ in range(4)]
    for number in range(20):
        await collect(worker, org, f"k{number:02}")
        await asyncio.gather(*(deliver_webhooks(ctx) for ctx in contexts))
    await deliver(worker)

    assert sorted(keys_of(receiver)) == [f"k{number:02}" for number in range(20)]
    assert (await account(worker)).unaccounted == 0
    assert (await account(worker)).delivered == 20


async def drop_changes_of_noon(worker: WorkerContext) -> None:
    """Drop the changes of `collect` with n=0."""
    await partitions.drop_ended(worker.pool, NOON + timedelta(seconds=30), partitions.CHANGES)


async def test_what_retention_drops_while_a_webhook_is_paused_is_undelivered(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, webhook, _ = await with_webhook(worker, receiver.url())
    async with tenancy.org_transaction(worker.pool, org) as connection:
        await store.pause(connection, org, webhook, NOON, "moving")
    await collect(worker, org, "a", "b")
    await drop_changes_of_noon(worker)
    await collect(worker, org, "c", n=1)
    async with tenancy.org_transaction(worker.pool, org) as connection:
        await store.resume(connection, org, webhook)

    await deliver(worker)

    assert keys_of(receiver) == ["c"]
    found = await account(worker)
    assert found.undelivered == {NOT_KEPT: 2}
    assert (found.delivered, found.waiting, found.unaccounted) == (1, 0, 0)


async def test_a_delivery_of_which_retention_drops_a_part_is_undelivered(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, _, _ = await with_webhook(worker, receiver.url())
    await collect(worker, org, "a")
    await collect(worker, org, "b", n=1)
    await settled(worker.pool)
    await store.form(worker.pool)
    await drop_changes_of_noon(worker)
    await collect(worker, org, "c", n=2)

    await deliver(worker)

    assert keys_of(receiver) == ["c"]
    found = await account(worker)
    assert found.undelivered == {NOT_KEPT: 2}
    assert (found.delivered, found.waiting, found.unaccounted) == (1, 0, 0)


async def test_no_more_webhooks_than_allowed_are_created_at_once(worker: WorkerContext) -> None:
    org = await tokens.create_org(worker.pool, "Acme", NOON)

    answers = await asyncio.gather(
        *(
            hooks.create(worker.pool, worker.config, org, "https://example.com/", "test", NOON)
            for _ in range(hooks.MAX_WEBHOOKS + 5)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(answer, Conflict) for answer in answers) == 5
    async with tenancy.org_transaction(worker.pool, org) as connection:
        assert len(await store.all_of(connection, org)) == hooks.MAX_WEBHOOKS


async def test_a_private_address_is_refused_when_connecting(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin, receiver: Receiver
) -> None:
    lax = config_for(dsn, redis_url, standin, guard_allow=("127.0.0.1",))
    async with worker_harness.opened(config_for(dsn, redis_url, standin), redis) as worker:
        org = await tokens.create_org(worker.pool, "Acme", NOON)
        await hooks.create(worker.pool, lax, org, receiver.url(), "test", NOON)
        await collect(worker, org, "a")

        await deliver(worker)

        reason = await worker.pool.fetchval("SELECT reason FROM webhook_deliveries")
    assert receiver.messages == []
    assert "not on the public internet" in reason


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "ftp://example.com/",
        "https://user:secret@example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://0x7f.1/",
        "https:///x",
        "https://example.com:x/",
        "https://example.com/a b",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_may_not_be_is_refused_at_its_creation(url: str) -> None:
    with pytest.raises(InvalidValue):
        hooks.check_url(config_for("postgresql://x/x", "redis://x/0"), url)


async def test_secrets_of_webhooks_are_sealed_anew_with_a_new_key(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, _, secret = await with_webhook(worker, receiver.url())
    both = worker.config.model_copy(
        update={"secrets_key": SecretStr("b" * 42 + "A," + SECRETS_KEY)}
    )

    count = await secrets.reseal(worker.pool, secret_box.from_config(both), NOON)
    new_only = worker.config.model_copy(update={"secrets_key": SecretStr("b" * 42 + "A")})
    await collect(worker, org, "a")
    worker.config = new_only
    await deliver(worker)

    assert count == 1
    assert receiver.of()[0].signed_with(secret)


def test_the_signature_is_that_of_the_standards_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - published with the standard
    body = b'{"test": 2432232314}'

    signature = webhook_signature.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_status_is_a_delivery_though_its_body_never_comes(
    worker: WorkerContext, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 3.0)
    org, _, _ = await with_webhook(worker, receiver.url())
    receiver.always["/in"] = NO_BODY
    await collect(worker, org, "a")

    await deliver(worker)

    assert (await account(worker)).delivered == 1
    assert len(receiver.of()) == 1


async def test_nothing_is_sent_for_an_organisation_while_it_is_disabled(
    worker: WorkerContext, receiver: Receiver
) -> None:
    org, _, _ = await with_webhook(worker, receiver.url())
    receiver.answers["/in"] = [500]
    await collect(worker, org, "waiting")
    await deliver(worker)
    assert keys_of(receiver) == ["waiting"]  # refused, and to be tried again
    await orgs.set_disabled(worker.pool, org, NOON)
    await collect(worker, org, "later")
    await worker.pool.execute(NOW_DUE)

    await deliver(worker)
    sent = len(receiver.of())
    await orgs.set_disabled(worker.pool, org, None)
    await deliver(worker)

    assert sent == 1
    assert keys_of(receiver) == ["waiting", "later"]
    assert (await account(worker)).delivered == 2
