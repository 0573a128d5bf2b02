"""Delivers changes to many receivers while workers are killed, and counts what came.

Each receiver belongs to an organisation of its own. Some answer, others hang, send their answer a
byte at a time or without an end, answer 500 now and then, close the connection after they took the
message, redirect, answer no HTTP, refuse every connection or say that they are gone. Meanwhile
items change and a worker is killed (SIGKILL) and replaced again and again. At the end the
receivers' own records are compared with what changed: no change may be missing at a receiver that
answers, and none may have come with two ids, and the ledger must account for every change.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from random import Random
from uuid import UUID, uuid4

from pydantic import SecretStr

from app.core.config import Config
from app.core.records import Item
from app.orgs import tokens, webhooks
from app.store import tenancy
from app.store.content import items
from app.store.db import Pool
from app.store.orgs import webhooks as store
from app.store.schedules.heartbeats import database_now
from scripts.bench.worker_servers import WORKER, worker_servers
from scripts.child_processes import ChildEnvironment, child
from scripts.tcp_server import tcp_server

SECRETS_KEY = "a" * 43
BEHAVIOURS = (
    *("ok", "flaky", "liar", "hang", "ok", "dead", "slow", "gone", "ok", "refuse"),
    *("ok", "flaky", "liar", "drip", "ok", "redirect", "endless", "garbage", "ok", "ok"),
)
WELL = ("ok", "flaky", "liar", "slow", "endless")  # these must get everything
PATIENT = ("hang", "drip")  # each attempt takes ten seconds, so these keep their delays
ANSWERS = {
    "dead": b"HTTP/1.1 500 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    "gone": b"HTTP/1.1 410 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    "redirect": b"HTTP/1.1 307 x\r\nlocation: /ok/0\r\ncontent-length: 0\r\n\r\n",
    "garbage": b"\x00\xff no HTTP \r\n\r\n" * 20,
}
REFUSING_PORT = 1  # nothing listens there
SLOW_SECONDS = 2.0
FAULT_SHARE = 0.3  # of the messages to a receiver that is flaky or a liar
DRAIN_SECONDS = 180.0  # seconds after the last change until everything must have come
RETRY_NOW = """
UPDATE webhook_deliveries SET next_try_at = now() + interval '1 second'
WHERE state = 'waiting' AND next_try_at > now() + interval '3 seconds' AND NOT webhook_id = ANY ($1)
"""
PAUSED = "SELECT count(*) FROM webhooks WHERE paused_at IS NOT NULL AND id = ANY ($1)"


@dataclass(slots=True)
class Receivers:
    """A server for all receivers. `got`: by receiver and change, the message ids it came with."""

    rng: Random
    port: int = 0
    messages: int = 0
    got: dict[int, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request and behave as its path says."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        behaviour, number = head.split(" ")[1].strip("/").split("/")
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        message_id = head.partition("webhook-id: ")[2].partition("\r\n")[0]
        body = await reader.readexactly(length)
        await self._behave(behaviour, writer, reader, (int(number), message_id, body))

    async def _behave(
        self,
        behaviour: str,
        writer: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
        message: tuple[int, str, bytes],
    ) -> None:
        if behaviour == "hang":
            await reader.read()
            return
        if behaviour == "drip":
            await _drip(writer)
            return
        faulty = behaviour == "flaky" and self.rng.random() < FAULT_SHARE
        if (answer := ANSWERS.get("dead" if faulty else behaviour)) is not None:
            writer.write(answer)
            return
        number, message_id, body = message
        self.messages += 1
        for change in json.loads(body)["data"]["changes"]:
            self.got[number][change["id"]].add(message_id)
        if behaviour == "liar" and self.rng.random() < FAULT_SHARE:
            return  # it took the message, and its answer is lost
        if behaviour == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if behaviour == "endless":
            await _endless(writer)
            return
        writer.write(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n")


async def _drip(writer: asyncio.StreamWriter) -> None:
    """Send an answer whose headers never end, a byte a second."""
    writer.write(b"HTTP/1.1 200 x\r\nx: ")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(1)


async def _endless(writer: asyncio.StreamWriter) -> None:
    """Answer 200 with a body that never ends."""
    writer.write(b"HTTP/1.1 200 x\r\nconnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 65_536)
        await writer.drain()


@dataclass(slots=True)
class WebhookFigures:
    """What came of it. `missing`, `doubled`: changes at receivers that answer; both must be 0.

    `undelivered`: changes by the reason that the ledger has. `paused`: webhooks that rest.
    """

    receivers: int
    changes: int = 0
    messages: int = 0
    killed: int = 0
    delivered: int = 0
    waiting: int = 0
    undelivered: dict[str, int] = field(default_factory=dict[str, int])
    paused: int = 0
    unaccounted: int = 0
    missing: int = 0
    doubled: int = 0
    drained_seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether nothing is missing, doubled or unaccounted for."""
        return not (self.missing or self.doubled or self.unaccounted)


@asynccontextmanager
async def receiving(seed: int) -> AsyncGenerator[Receivers]:
    """Serve the receivers on a port of their own."""
    receivers = Receivers(Random(seed))  # noqa: S311 - to vary behaviour
    async with tcp_server(receivers.serve, backlog=1000) as receivers.port:
        yield receivers


async def measure(count: int, seconds: float, workers: int, seed: int) -> WebhookFigures:
    """Run it with so many receivers and workers, changing items for so many seconds."""
    figures = WebhookFigures(count)
    async with (
        worker_servers(8, 10.0, SECRETS_KEY=SECRETS_KEY) as servers,
        receiving(seed) as receivers,
    ):
        pool, environment = servers.pool, servers.environment
        orgs = await _webhooks(pool, receivers, count)
        killing = [
            asyncio.create_task(_worker(f"worker-{n}", environment, figures, Random(seed + n)))  # noqa: S311 - as above
            for n in range(workers)
        ]
        try:
            await _change(pool, orgs, seconds, Random(seed))  # noqa: S311 - as above
            await _drain(pool, receivers, orgs, figures)
        finally:
            for task in killing:
                task.cancel()
            await asyncio.wait(killing)
        await _count(pool, receivers, orgs, figures)
    return figures


@dataclass(frozen=True, slots=True)
class _Client:
    number: int
    org_id: UUID
    webhook_id: UUID
    behaviour: str


async def _webhooks(pool: Pool, receivers: Receivers, count: int) -> list[_Client]:
    config = Config(
        _env_file=None,  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword
        secrets_key=SecretStr(SECRETS_KEY),
        guard_allow=("127.0.0.1",),
    )
    clients: list[_Client] = []
    for number in range(count):
        behaviour = BEHAVIOURS[number % len(BEHAVIOURS)]
        now = await database_now(pool)
        org_id = await tokens.create_org(pool, f"Org {number}", now)
        port = REFUSING_PORT if behaviour == "refuse" else receivers.port
        url = f"http://127.0.0.1:{port}/{behaviour}/{number}"
        webhook_id, _ = await webhooks.create(pool, config, org_id, url, "bench", now)
        clients.append(_Client(number, org_id, webhook_id, behaviour))
    return clients


async def _worker(
    name: str, environment: ChildEnvironment, figures: WebhookFigures, rng: Random
) -> None:
    """A worker that is killed after 10 to 25 seconds and replaced, until this is cancelled."""
    while True:
        async with child(name, WORKER, environment) as started:
            await asyncio.sleep(rng.uniform(10, 25))
            with contextlib.suppress(ProcessLookupError):
                started.process.kill()
            figures.killed += 1


async def _change(pool: Pool, clients: Sequence[_Client], seconds: float, rng: Random) -> None:
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        client = rng.choice(clients)
        async with tenancy.org_transaction(pool, client.org_id) as connection:
            page = [Item("shop", f"k{rng.randrange(20)}", {"n": number}) for _ in range(3)]
            now = await database_now(connection)
            await items.write(connection, client.org_id, "shop", page, now, uuid4())
        await asyncio.sleep(0.01)


async def _drain(
    pool: Pool, receivers: Receivers, clients: Sequence[_Client], figures: WebhookFigures
) -> None:
    """Wait until every receiver that answers has everything, and the others are given up.

    Retries need not wait for hours.
    """
    started = time.monotonic()
    patient = [client.webhook_id for client in clients if client.behaviour in PATIENT]
    ill = [c.webhook_id for c in clients if c.behaviour not in (*WELL, *PATIENT)]
    while time.monotonic() < started + DRAIN_SECONDS:
        await pool.execute(RETRY_NOW, patient)
        given_up = await pool.fetchval(PAUSED, ill) == len(ill)
        if given_up and not await _missing(pool, receivers, clients):
            break
        await asyncio.sleep(1)
    figures.drained_seconds = round(time.monotonic() - started, 1)


async def _missing(pool: Pool, receivers: Receivers, clients: Sequence[_Client]) -> int:
    rows = await pool.fetch("SELECT org_id, position || '.' || id AS place FROM changes")
    places: dict[UUID, set[str]] = defaultdict(set)
    for row in rows:
        places[row["org_id"]].add(row["place"])
    return sum(
        len(places[client.org_id] - receivers.got[client.number].keys())
        for client in clients
        if client.behaviour in WELL
    )


async def _count(
    pool: Pool, receivers: Receivers, clients: Sequence[_Client], figures: WebhookFigures
) -> None:
    figures.changes = await pool.fetchval("SELECT count(*) FROM changes")
    figures.messages = receivers.messages
    figures.missing = await _missing(pool, receivers, clients)
    figures.doubled = sum(
        len(ids) > 1 for changes in receivers.got.values() for ids in changes.values()
    )
    figures.paused = await pool.fetchval(
        "SELECT count(*) FROM webhooks WHERE paused_at IS NOT NULL"
    )
    for account in await store.account(pool):
        figures.delivered += account.delivered
        figures.waiting += account.waiting
        for reason, count in account.undelivered.items():
            figures.undelivered[reason] = figures.undelivered.get(reason, 0) + count
        figures.unaccounted += account.unaccounted


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; returns 1 if something is missing or doubled."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/webhooks",
        description=__doc__,
        epilog="Example: scripts/bench/webhooks --receivers 1000 --seconds 600 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--receivers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which items change")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(argv)
    figures = asyncio.run(measure(asked.receivers, asked.seconds, asked.workers, asked.seed))
    facts = asdict(figures)
    lines = [json.dumps(facts)] if asked.json else [f"{k}: {v}" for k, v in facts.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if figures.sound else 1


if __name__ == "__main__":
    sys.exit(main())
