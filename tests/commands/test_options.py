"""Each option of a command changes what it lists, and each part of a text is printed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from arq.connections import ArqRedis

from app.cli import terminal
from app.context import WorkerContext
from app.health import keys
from app.health.facts import WorkerFacts
from app.ledger import edit
from app.orgs import tokens
from app.runs import log
from app.store import tenancy
from app.store.db import Pool
from app.store.orgs import webhooks
from tests import worker_harness
from tests.collections import harness
from tests.commands.conftest import Rollcall, RollcallJson
from tests.commands.rows import declare, insert_run, now_of, words_of

INSERT_REJECTED = """
INSERT INTO rejected_records (execution_id, source, partition, page, record_id, reason, data,
                              created_at)
VALUES ($1, 'books', 'all', 1, $2, 'no title', '{}', $3)
"""


async def test_pause_until_ends_by_itself_and_health_knows_at_once(
    rollcall: Rollcall, pool: Pool, redis: ArqRedis
) -> None:
    await declare(pool, timedelta())

    await rollcall("pause", "scrape", "--note", "moves", "--until", "2999-01-01")
    until = await pool.fetchval("SELECT paused_until FROM schedules")
    paused = (await keys.read_jobs(redis))["scrape"]
    listed = words_of((await rollcall("jobs")).output)
    await rollcall("resume", "scrape")
    resumed = (await keys.read_jobs(redis))["scrape"]

    assert until == datetime(2999, 1, 1, tzinfo=UTC)
    assert (paused.paused_at is not None, paused.paused_note) == (True, "moves")
    assert f"{terminal.current_user()}: moves" in listed
    assert resumed.paused_at is None


async def test_pause_until_the_past_is_refused(rollcall: Rollcall, pool: Pool) -> None:
    await declare(pool, timedelta())

    refused = await rollcall("pause", "scrape", "--note", "moves", "--until", "2020-01-01")

    assert refused.exit_code == 2
    assert await pool.fetchval("SELECT paused_at FROM schedules") is None


async def test_a_cancelled_run_names_who_cancelled_it(rollcall: Rollcall, pool: Pool) -> None:
    run_id = await insert_run(pool, timedelta(), status="running")

    await rollcall("cancel", str(run_id))

    message = await pool.fetchval("SELECT error_message FROM runs")
    assert terminal.current_user() in message


async def test_runs_are_filtered_by_trigger_and_age(
    rollcall_json: RollcallJson, pool: Pool
) -> None:
    old = await insert_run(pool, timedelta(hours=3))
    new = await insert_run(pool, timedelta(minutes=1), trigger="backfill")

    manual = await rollcall_json("runs", "--trigger", "manual")
    recent = await rollcall_json("runs", "--since", "2h")

    assert [run["execution_id"] for run in manual] == [str(old)]
    assert [run["execution_id"] for run in recent] == [str(new)]


async def test_a_run_is_printed_with_its_events_sources_rejected_records_and_log(
    rollcall: Rollcall, pool: Pool, redis: ArqRedis
) -> None:
    run_id = await insert_run(pool, timedelta(minutes=1))
    await pool.execute(
        "INSERT INTO run_events (execution_id, at, event, attempt, worker)"
        " VALUES ($1, now(), 'finished', 1, 'w1')",
        run_id,
    )
    await pool.execute(INSERT_REJECTED, run_id, "77", await now_of(pool))
    client: Any = redis
    await client.rpush(log.key(run_id), "2026-09-05T14:00:00Z page.read number=3")
    await client.expire(log.key(run_id), 60)

    printed = words_of((await rollcall("run", str(run_id))).output)

    assert "Events" in printed
    assert "w1" in printed
    assert "Rejected records" in printed
    assert "no title" in printed
    assert "2026-09-05 14:00:00Z page.read number=3" in printed


async def test_ticks_are_cut_at_an_instant_and_at_a_number(
    rollcall_json: RollcallJson, pool: Pool
) -> None:
    now = await declare(pool, timedelta(minutes=30))
    await edit.pause(pool, "scrape", now - timedelta(minutes=20), by="ada", note="")
    await edit.resume(pool, "scrape", now, by="ada")
    border = now - timedelta(minutes=10)

    every = await rollcall_json("ticks", "scrape")
    before = await rollcall_json("ticks", "scrape", "--until", border.isoformat())
    first = await rollcall_json("ticks", "scrape", "--limit", "1")

    instants = [datetime.fromisoformat(row["scheduled_for"]) for row in every]
    assert instants == sorted(instants, reverse=True)
    assert before == [row for row, at in zip(every, instants, strict=True) if at < border]
    assert before != every
    assert first == every[:1]


async def test_rejected_records_are_filtered_by_source_and_age_and_limited(
    rollcall_json: RollcallJson, pool: Pool
) -> None:
    now, run_id = await now_of(pool), await insert_run(pool, timedelta(hours=5))
    for hours in range(3):
        await pool.execute(INSERT_REJECTED, run_id, str(hours), now - timedelta(hours=hours))

    recent = await rollcall_json("rejected", "--source", "books", "--since", "90m")
    limited = await rollcall_json("rejected", "--limit", "1")

    assert [row["record_id"] for row in recent] == ["0", "1"]
    assert len(limited) == 1


async def test_rejected_records_are_those_of_the_job_and_of_the_source_the_newest_run_first(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool
) -> None:
    now = await now_of(pool)
    old, new, other = [await insert_run(pool, timedelta(hours=hours)) for hours in (5, 3, 4)]
    await pool.execute("UPDATE runs SET job = 'poll_news' WHERE execution_id = $1", other)
    for run_id, record in ((old, "1"), (new, "2"), (new, "3"), (other, "4")):
        await pool.execute(INSERT_REJECTED, run_id, record, now)
    await pool.execute(INSERT_REJECTED.replace("'books'", "'bet9ja'"), old, "5", now)

    every = await rollcall_json("rejected")
    of_job = await rollcall_json("rejected", "--job", "scrape")
    of_source = await rollcall_json("rejected", "--source", "books")
    of_both = await rollcall_json("rejected", "--source", "bet9ja", "--job", "scrape")
    none = await rollcall_json("rejected", "--source", "bet9ja", "--job", "poll_news")
    shown = (await rollcall("rejected", "--source", "bet9ja")).stdout

    assert [row["record_id"] for row in every] == ["2", "3", "4", "1", "5"]
    assert [row["record_id"] for row in of_job] == ["2", "3", "1", "5"]
    assert [row["record_id"] for row in of_source] == ["2", "3", "4", "1"]
    assert [(row["record_id"], row["job"], row["source"]) for row in of_both] == [
        ("5", "scrape", "bet9ja")
    ]
    assert none == []
    assert [word in shown for word in ("bet9ja", "no title", str(old)[:8])] == [True] * 3


async def test_workers_lists_the_runs_of_each_and_ends_with_1_without_any(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool, redis: ArqRedis
) -> None:
    none = await rollcall("workers")
    now = datetime.now(UTC)
    for name in ("one", "two"):
        await keys.write_worker(redis, name, 60, WorkerFacts(now, now))
    run_id = await insert_run(pool, timedelta(), status="running", worker="two")

    listed = await rollcall_json("workers")

    assert none.exit_code == 1
    assert [(row["worker"], row["runs"]) for row in listed] == [("one", []), ("two", [str(run_id)])]


async def test_status_prints_the_requests_of_the_month(
    rollcall: Rollcall, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    del pool
    monkeypatch.setenv("MONTHLY_REQUESTS", "bet9ja=5000")

    printed = (await rollcall("status")).output

    assert "bet9ja: 0 of 5,000 requests this month" in printed


async def test_jobs_lists_collections_only_if_asked_for(
    context: WorkerContext, rollcall_json: RollcallJson
) -> None:
    acme = await harness.client(context)

    without = await rollcall_json("jobs")
    all_of_them = await rollcall_json("jobs", "--collections")

    assert acme.key not in [row["job"] for row in without]
    assert acme.key in [row["job"] for row in all_of_them]


async def test_verify_ends_with_1_if_a_tick_has_no_outcome_and_all_counts_again(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool
) -> None:
    now = await declare(pool, timedelta(minutes=30))
    await edit.pause(pool, "scrape", now - timedelta(minutes=20), by="ada", note="")
    await edit.resume(pool, "scrape", now, by="ada")
    await rollcall("verify")
    deleted = await pool.fetchval(
        "WITH gone AS (DELETE FROM ticks RETURNING 1) SELECT count(*) FROM gone"
    )

    proven = await rollcall_json("verify")
    (counted,) = await rollcall_json("verify", "--all", code=1)
    printed = await rollcall("verify", "--all")

    assert deleted > 0
    assert [account["unaccounted"] for account in proven] == [0]
    assert counted["unaccounted"] == deleted
    assert (printed.exit_code, f"unaccounted: {deleted}" in printed.output) == (1, True)
    assert "no outcome for " in printed.output


async def test_verify_prints_what_became_of_the_changes_for_webhooks(
    rollcall: Rollcall, pool: Pool
) -> None:
    without = await rollcall("verify")
    org_id = await tokens.create_org(pool, "Acme", await now_of(pool))
    async with tenancy.org_transaction(pool, org_id) as connection:
        webhook = (uuid4(), "https://acme.example/in", b"sealed")
        await webhooks.add(connection, org_id, webhook, await now_of(pool), "ada")

    printed = words_of((await rollcall("verify")).output)

    assert "webhooks" not in without.output
    assert "1 webhooks, changes delivered: 0, waiting: 0, undelivered: 0" in printed


async def test_export_to_the_standard_output_is_not_described(
    rollcall: Rollcall, pool: Pool
) -> None:
    del pool
    refused = await rollcall("export", "runs", "--json")

    assert refused.exit_code == 2
    assert "--json describes a file" in words_of(refused.output)


async def test_replay_reads_only_pages_with_rejected_records_if_asked_for(
    context: WorkerContext, rollcall_json: RollcallJson
) -> None:
    await worker_harness.perform(context)

    every = await rollcall_json("replay", "bet9ja", "--since", "1d", "--dry-run")
    only = await rollcall_json("replay", "bet9ja", "--since", "1d", "--dry-run", "--only-rejected")

    assert every["pages"] > only["pages"]


async def test_a_retired_schedule_has_its_act_on_record(rollcall: Rollcall, pool: Pool) -> None:
    await declare(pool, timedelta(minutes=1))

    done = await rollcall("retire", "scrape", "--json")

    assert json.loads(done.stdout.splitlines()[-1])["retired"] is True
    by = await pool.fetchval("SELECT by FROM schedule_edits WHERE action = 'retired'")
    assert by == terminal.current_user()


async def test_an_exported_file_is_named_with_its_rows(
    rollcall_json: RollcallJson, pool: Pool, tmp_path: Path
) -> None:
    await insert_run(pool, timedelta(hours=3))
    await insert_run(pool, timedelta(minutes=1))

    done = await rollcall_json("export", "runs", str(tmp_path / "runs.csv"), "--since", "2h")

    assert (Path(done["file"]).name, done["rows"]) == ("runs.csv", 1)
