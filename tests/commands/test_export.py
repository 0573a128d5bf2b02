"""What is taken out is whole, streamed, and says what the tables say."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.to_thread
import asyncpg
import pytest

from app.context import WorkerContext
from app.embedded import Servers
from app.store.db import OPERATOR_SESSION, Pool
from tests import servers as real
from tests import worker_harness
from tests.commands.conftest import ROOT, Rollcall, RollcallJson
from tests.wait import until

ROWS = 1_000_000
MOST_MB = 300
FILL = """
INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active, observed_at, run_id)
SELECT 1 + i % 1000, 'over_under', 2.5, 'over', 1 + (i % 900) / 100.0, true,
       timestamptz '2026-09-05T00:00:00Z' + i * interval '1 ms', gen_random_uuid()
FROM generate_series(1, $1::int) AS i
"""
AWKWARD = 'a "quote", a comma,\na line, a \\ and é'


async def test_each_kind_is_written_in_each_format(
    context: WorkerContext, rollcall_json: RollcallJson, tmp_path: Path
) -> None:
    await worker_harness.perform(context)

    counts: dict[str, set[int]] = {}
    for kind in ("odds", "changes", "articles", "stories", "items", "runs"):
        for form in ("csv", "jsonl", "parquet"):
            file = tmp_path / f"{kind}.{form}"
            result = await rollcall_json("export", kind, str(file), "--format", form)
            assert file.stat().st_size == result["bytes"] or form == "parquet"
            counts.setdefault(kind, set()).add(result["rows"])

    prices = await context.pool.fetchval("SELECT count(*) FROM odds_prices")
    assert counts["odds"] == counts["changes"] == {prices}
    assert counts["runs"] == {1}
    assert counts["articles"] == counts["stories"] == counts["items"] == {0}


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
async def test_no_scraped_text_is_a_formula_in_a_csv_file(
    rollcall: Rollcall, pool: Pool, sign: str
) -> None:
    formula = f"{sign}cmd|' /C calc'!A0"
    await pool.execute(
        "INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language,"
        " country, published_at, categories, keywords, entities, first_seen_at, updated_at, run_id)"
        " VALUES ('asknews', $1, '', $1, '', '', '', '', '', now(), '{}', '{}', '{}', now(), now(),"
        " gen_random_uuid())",
        formula,
    )

    (row,) = csv.DictReader(io.StringIO((await rollcall("export", "articles")).stdout, newline=""))

    assert row["title"] == row["article_id"] == f"'{formula}"


async def test_awkward_words_come_out_as_they_went_in(rollcall: Rollcall, pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO runs (execution_id, job, trigger, status, queued_at, error_message, attempt,"
        " losses, max_attempts, timeout_seconds, lease_epoch)"
        " VALUES (gen_random_uuid(), 'odd', 'manual', 'failure', now(), $1, 1, 0, 3, 240, 0)",
        AWKWARD,
    )

    (line,) = (await rollcall("export", "runs", "--format", "jsonl")).stdout.splitlines()
    (row,) = csv.DictReader(io.StringIO((await rollcall("export", "runs")).stdout))

    assert json.loads(line)["error_message"] == row["error_message"] == AWKWARD


async def test_parquet_keeps_types(
    context: WorkerContext, rollcall_json: RollcallJson, tmp_path: Path
) -> None:
    parquet: Any = import_module("pyarrow.parquet")
    await worker_harness.perform(context)
    file = tmp_path / "odds.parquet"

    await rollcall_json("export", "odds", str(file), "--format", "parquet")

    table = parquet.read_table(file)
    row = table.slice(0, 1).to_pylist()[0]
    price = await context.pool.fetchval(
        "SELECT price FROM odds_prices p JOIN odds_events e ON e.id = p.event_id"
        " WHERE platform = $1 AND platform_event_id = $2 AND market = $3 AND outcome = $4"
        " AND p.line IS NOT DISTINCT FROM $5",
        row["platform"],
        row["platform_event_id"],
        row["market"],
        row["outcome"],
        row["line"],
    )
    assert row["price"] == price
    assert row["kickoff"].tzinfo is not None


async def test_a_stretch_of_time_is_cut_out(
    rollcall_json: RollcallJson, pool: Pool, tmp_path: Path
) -> None:
    await pool.execute(FILL, 3_000)

    result = await rollcall_json(
        *("export", "changes", str(tmp_path / "x.csv")),
        *("--since", "2026-09-05T00:00:01Z", "--until", "2026-09-05T00:00:02Z"),
    )

    assert result["rows"] == 1_000


BEGIN, END = "2026-09-05T00:00:00Z", "2026-09-06T00:00:00Z"
# Four rows each: before, at the first instant, before the end, and at it. $2 is what is filtered.
ROWS_AT = {
    "odds": """
      WITH event AS (
        INSERT INTO odds_events (platform, platform_event_id, country, competition, home, away,
          kickoff, first_seen_at, updated_at, run_id, seen_at, seen_run_id)
        VALUES ('bet9ja', $1, '', '', '', '', now(), now(), now(), gen_random_uuid(), now(),
                gen_random_uuid()) RETURNING id)
      INSERT INTO odds_prices (event_id, market, outcome, price, active, changed_at, run_id)
      SELECT id, 'btts', 'yes', 2, true, $2::timestamptz, gen_random_uuid() FROM event""",
    "changes": """
      WITH event AS (
        INSERT INTO odds_events (platform, platform_event_id, country, competition, home, away,
          kickoff, first_seen_at, updated_at, run_id, seen_at, seen_run_id)
        VALUES ('bet9ja', $1, '', '', '', '', now(), now(), now(), gen_random_uuid(), now(),
                gen_random_uuid()) RETURNING id)
      INSERT INTO odds_price_changes (event_id, market, outcome, price, active, observed_at, run_id)
      SELECT id, 'btts', 'yes', 2, true, $2::timestamptz, gen_random_uuid() FROM event""",
    "articles": """
      INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language,
        country, published_at, categories, keywords, entities, first_seen_at, updated_at, run_id)
      VALUES ('asknews', $1, '', '', '', '', '', '', '', $2::timestamptz, '{}', '{}', '{}', now(),
              now(), gen_random_uuid())""",
    "stories": """
      INSERT INTO stories (provider, story_uuid, topic, told_at, categories, keywords,
        first_seen_at, updated_at, run_id)
      VALUES ('asknews', $1, '', $2::timestamptz, '{}', '{}', now(), now(), gen_random_uuid())""",
    "items": """
      INSERT INTO items (source, key, content_hash, first_seen, last_seen, changed_at, run_id)
      VALUES ('books', $1, '', now(), now(), $2::timestamptz, gen_random_uuid())""",
    "runs": """
      INSERT INTO runs (execution_id, job, trigger, status, created_at, queued_at, attempt, losses,
        max_attempts, timeout_seconds, lease_epoch)
      VALUES (gen_random_uuid(), $1, 'manual', 'success', $2::timestamptz, now(), 1, 0, 3, 240, 0)
      """,
}
NAME_OF = {
    "odds": "platform_event_id", "changes": "platform_event_id", "articles": "article_id",
    "stories": "story_uuid", "items": "key", "runs": "job",
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS_AT)
async def test_each_kind_is_cut_by_its_own_instant_with_the_first_and_without_the_last(
    rollcall: Rollcall, pool: Pool, kind: str
) -> None:
    begin, end = datetime.fromisoformat(BEGIN), datetime.fromisoformat(END)
    moment = timedelta(microseconds=1)
    for name, at in (
        ("before", begin - moment),
        ("first", begin),
        ("last", end - moment),
        ("after", end),
    ):
        await pool.execute(ROWS_AT[kind], name, at)

    found: list[list[str]] = []
    for words in (("--since", BEGIN, "--until", END), ("--since", BEGIN), ("--until", END)):
        printed = (await rollcall("export", kind, *words)).stdout
        found.append([row[NAME_OF[kind]] for row in csv.DictReader(io.StringIO(printed))])

    assert [sorted(names) for names in found] == [
        ["first", "last"],
        ["after", "first", "last"],
        ["before", "first", "last"],
    ]


async def test_an_export_that_fails_leaves_no_file_and_the_old_one_as_it_was(
    rollcall: Rollcall, pool: Pool, tmp_path: Path
) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("before")
    await pool.execute("ALTER TABLE runs RENAME COLUMN worker TO somebody")

    result = await rollcall("export", "runs", str(file))

    assert result.exit_code != 0
    assert file.read_text() == "before"
    assert os.listdir(tmp_path) == ["runs.csv"]  # noqa: PTH208 - one look, not a walk


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_an_export_that_is_stopped_leaves_no_part_of_a_file(
    surroundings: dict[str, str], pool: Pool, tmp_path: Path, stop: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "export", "runs", str(tmp_path / "runs.csv")),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | surroundings,  # noqa: TID251 - the child's
        stderr=subprocess.PIPE,
    )

    async def writing() -> bool:
        return bool(os.listdir(tmp_path))  # noqa: PTH208 - one look, not a walk

    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE runs")  # so that it does not end before
        await until(writing, 60, "the part")
        process.send_signal(stop)
        _, said = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == (130 if stop is signal.SIGINT else -signal.SIGTERM)
    assert b"Traceback" not in said
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - the same


async def test_a_pipe_is_written_to_and_stays_a_pipe(
    rollcall: Rollcall, pool: Pool, tmp_path: Path
) -> None:
    del pool
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    result = await rollcall("export", "runs", str(pipe))
    read = os.read(reading, 65_536)
    os.close(reading)

    assert result.exit_code == 0, result.output
    assert pipe.is_fifo()
    assert read.startswith(b"execution_id,")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app", "source", "schema"],
            cwd=ROOT,
            env={},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr == (
        "the standard output, or a file, cannot be used: No space left on device\n"
    )


# A child's `ru_maxrss` begins with what its parent had: the kernel's own note of it does not.
WEIGHED = """
import runpy, sys
try:
    runpy.run_module("app", run_name="__main__", alter_sys=False)
finally:
    sys.stderr.write(open("/proc/self/status").read())
"""


@pytest.fixture(scope="module")
async def million(servers: Servers, template: str) -> AsyncGenerator[str]:
    """A database with a million changes of prices, which exports leave as they are."""
    name = f"million_{uuid4().hex}"
    dsn = await real.create_database(servers, name, template=template)
    filling = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    await filling.execute(FILL, ROWS, timeout=100)
    await filling.close()
    yield dsn
    await real.drop_database(servers, name)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory")
@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_a_million_rows_take_little_memory(
    redis_url: str, million: str, tmp_path: Path, form: str
) -> None:
    command = ["export", "changes", str(tmp_path / "x"), "--format", form, "--json"]

    def taken() -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-c", WEIGHED, *command],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": million, "REDIS_URL": redis_url},  # noqa: TID251 - the child's
            capture_output=True,
            text=True,
            check=True,
        )

    done = await anyio.to_thread.run_sync(taken)

    rss_mb = int(done.stderr.split("VmHWM:")[1].split()[0]) / 1024
    assert json.loads(done.stdout)["rows"] == ROWS
    assert rss_mb < MOST_MB


async def test_who_has_read_enough_ends_it_quietly(
    surroundings: dict[str, str], pool: Pool
) -> None:
    await pool.execute(FILL, 100_000, timeout=60)

    def cut_short() -> tuple[bytes, bytes, int]:
        with subprocess.Popen(
            [sys.executable, "-m", "app", "export", "changes", "-"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]} | surroundings,  # noqa: TID251 - the child's
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            process.stdout.close()
            said = process.stderr.read()
        return first, said, process.returncode

    first, said, code = await anyio.to_thread.run_sync(cut_short)

    assert b"price" in first
    assert code in {0, 141, -13}
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said
