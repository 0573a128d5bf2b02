"""A job reads the secrets that it declares, from the environment or `.env`; none is shown."""

import asyncio
import json
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.jobs import (
    HostLimits,
    Item,
    Job,
    ListingEnd,
    Partition,
    RawPage,
    Run,
    SourceRequest,
    job,
    source,
)
from app.jobs.testing import PretendWeb, lab
from app.runs import log as run_log
from app.store.servers import ServerUrls
from tests import worker_harness
from tests.configs import NO_POSTGRES, config_for
from tests.own_tables import forgotten_afterwards
from workers import discovery, lifecycle, registry
from workers.discovery import JOB_OF_CLASS

KEY = "sesame-of-the-shop"
FILE = """
from app.jobs import Run, job

@job(every=3600, secrets=["SHOP_KEY"])
async def own(run: Run) -> None:
    await run.store("own", [{"id": 1, "length": len(run.secret("SHOP_KEY"))}], key="id")
"""


@job(secrets=["SHOP_KEY"])
async def keyed(run: Run) -> None:
    run.log.info("asked", of=f"https://shop.example/{run.secret('SHOP_KEY')}/prices")
    raise ValueError(f"{run.secret('SHOP_KEY')} is refused")


@job()
async def undeclared(run: Run) -> None:
    run.secret("SHOP_KEY")


async def performed(context: WorkerContext, own: Job) -> dict[str, Any]:
    run_id = await worker_harness.perform(context, job=own)
    row = await context.pool.fetchrow("SELECT * FROM runs WHERE execution_id = $1", run_id)
    assert row is not None
    return dict(row)


async def test_a_secret_that_is_not_set_fails_the_run_with_its_name(context: WorkerContext) -> None:
    row = await performed(context, keyed)

    assert (row["status"], row["error_type"]) == ("failure", "auth")
    assert row["error_message"] == (
        "SHOP_KEY, a secret of the job 'keyed', is not set: put SHOP_KEY=… into"
        f" {Path.cwd()}/.env or the environment, then restart the workers"
    )


async def test_a_secret_that_a_job_does_not_declare_is_refused_with_what_to_write(
    context: WorkerContext,
) -> None:
    context.give_secrets({"SHOP_KEY": SecretStr(KEY)})

    row = await performed(context, undeclared)

    assert row["error_type"] == "BadJob"
    assert row["error_message"].endswith(": declare it: secrets=['SHOP_KEY']")


@pytest.mark.parametrize("text", [f"SHOP_KEY={KEY}\n", "SHOP_KEY=\n", ""])
def test_a_secret_is_read_from_the_file_of_settings_and_a_missing_one_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    folder = tmp_path / "keyed_jobs"
    folder.mkdir()
    (folder / "own.py").write_text(FILE)
    (tmp_path / ".env").write_text(text)
    monkeypatch.chdir(tmp_path)

    with forgotten_afterwards():
        found = registry.load(config_for(NO_POSTGRES, "redis://127.0.0.1:1", jobs=(str(folder),)))

    named = {name: value.get_secret_value() for name, value in found.secrets.items()}
    assert named == ({"SHOP_KEY": KEY} if KEY in text else {})
    assert [fault.partition(": ")[2] for fault in found.faults] == (
        []
        if KEY in text
        else [
            "SHOP_KEY, a secret of the job 'own', is not set: put SHOP_KEY=… into"
            f" {Path.cwd()}/.env or the environment, then restart the workers"
        ]
    )
    assert "own" in found.names()  # its ticks are decided, and its runs say what is missing


async def test_the_kit_gives_a_job_its_secrets_and_no_others(
    tmp_path: Path, dsn: str, redis_url: str, redis: ArqRedis
) -> None:
    del redis  # emptied
    folder = tmp_path / "kit_jobs"
    folder.mkdir()
    (folder / "own.py").write_text(FILE)
    own = discovery.import_file(folder / "own.py").own

    async with lab(own, servers=ServerUrls(dsn, redis_url), secrets={"SHOP_KEY": KEY}) as opened:
        result = await opened.run()
        items = await opened.items("own")

    assert result.status == "success"
    assert items == {"1": {"id": 1, "length": len(KEY)}}
    with pytest.raises(ValueError, match="own declares SHOP_KEY: give secrets="):
        async with lab(own, servers=ServerUrls(dsn, redis_url)):
            pass


@source(secrets=["SHOP_KEY"])
class Shop:
    """A source that sends its key."""

    name = "keyed_shop"
    limits = HostLimits(rate=10_000, burst=10_000, concurrency=4)
    secrets: dict[str, str]

    def partitions(self) -> Any:
        """One."""
        yield from ()
        return [Partition("all")]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        """One page, for which the key is needed."""
        del part
        key = self.secrets["SHOP_KEY"]
        raw = yield SourceRequest("https://shop.example/all", (("token", key),))
        return ListingEnd("the only page", total=len(json.loads(raw.body)))

    def parse(self, raw: RawPage) -> Iterable[Item]:
        """Its rows."""
        yield from (Item(self.name, row, {}) for row in json.loads(raw.body))


async def test_a_source_has_the_secrets_that_it_declares(
    dsn: str, redis_url: str, redis: ArqRedis
) -> None:
    del redis  # emptied
    web = PretendWeb()
    web.page(f"https://shop.example/all?token={KEY}", ["a"])
    own: Job = getattr(Shop, JOB_OF_CLASS)
    servers = ServerUrls(dsn, redis_url)

    async with lab(own, web=web, servers=servers, secrets={"SHOP_KEY": KEY}) as opened:
        result = await opened.run()
        stored = await opened.rows("SELECT row_to_json(p)::text AS page FROM raw_pages p")

    assert (result.status, len(stored)) == ("success", 1)
    assert KEY not in str(stored)


async def test_a_worker_gives_its_jobs_their_secrets_and_hides_them(
    dsn: str, redis_url: str, redis: ArqRedis
) -> None:
    config = config_for(dsn, redis_url)
    found = replace(registry.load(config), secrets={"SHOP_KEY": SecretStr(KEY)})
    ctx: dict[str, Any] = {"redis": redis}

    await lifecycle.startup(config, ServerUrls(dsn, redis_url), found)(ctx)
    context: WorkerContext = ctx["context"]
    row = await performed(context, keyed)
    await asyncio.sleep(2 * run_log.FLUSH_SECONDS)
    lines = await run_log.read_lines(redis, row["execution_id"])
    await lifecycle.shutdown(ctx)

    assert context.hide(f"{KEY} is refused") == "*** is refused"
    assert "shop.example/***/prices" in str(lines)
    assert KEY not in f"{row} {lines}"
