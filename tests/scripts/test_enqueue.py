"""A run asked for by hand: what the command line may say, and what it says when nobody works."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import anyio.to_thread
import pytest
from arq.connections import ArqRedis

from app.core.errors import BadParameters, UnknownJob
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.runs import run_rows
from app.store.schedules import heartbeats
from scripts import run_request
from tests.configs import NO_POSTGRES, config_for

ROOT = Path(__file__).parents[2]
SETTINGS = config_for(NO_POSTGRES, "redis://127.0.0.1:1")


def test_parameters_are_those_of_the_job_and_lists_are_comma_separated() -> None:
    asked = run_request.parse(
        ["scrape_all_platforms", "--platforms", "bet9ja, betpawa", "--wait"], SETTINGS
    )

    assert asked.job.name == "scrape_all_platforms"
    assert asked.params == {"platforms": ["bet9ja", "betpawa"]}
    assert asked.wait
    assert not asked.as_json


def test_what_is_not_said_is_left_to_the_job() -> None:
    asked = run_request.parse(["scrape_all_platforms"], SETTINGS)

    assert asked.params == {}


def test_an_unknown_job_lists_those_there_are() -> None:
    with pytest.raises(UnknownJob, match="'scrape_nothing'; known: scrape_all_platforms"):
        run_request.parse(["scrape_nothing"], SETTINGS)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--platform", "bet9ja"], "does not take '--platform'; known: --platforms"),
        (["--colour=red"], "does not take '--colour=red'; known: --platforms"),
        (["bet9ja"], "does not take 'bet9ja'; known: --platforms"),
        (["--platforms", "mars"], "unknown mars; known: sportybet, betpawa, bet9ja"),
        (["--platforms"], "argument --platforms: expected one argument"),
    ],
)
def test_an_unknown_parameter_or_value_lists_the_known_ones(
    words: list[str], complaint: str
) -> None:
    with pytest.raises(BadParameters, match=complaint):
        run_request.parse(["scrape_all_platforms", *words], SETTINGS)


async def test_a_run_has_the_limits_of_its_schedule_and_is_in_the_audit_log(
    monkeypatch: pytest.MonkeyPatch,
    pool: Pool,
    dsn: str,
    redis_url: str,
    redis: ArqRedis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policies = Policies(timeout=1800, max_attempts=7)
    schedule = Schedule.every(60, name="scrape_all_platforms")
    declared = DeclaredSchedule("scrape_all_platforms", "scrape_all_platforms", schedule, policies)
    await edit.register(pool, [declared], await heartbeats.database_now(pool))
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("REDIS_URL", redis_url)

    words = ["scrape_all_platforms", "--platforms", "bet9ja"]
    code = await anyio.to_thread.run_sync(run_request.main, words)

    run_id = UUID(capsys.readouterr().out.strip())
    row = await run_rows.read_run(pool, run_id)
    assert (code, await redis.exists(f"arq:job:run:{run_id}:1")) == (0, 1)
    assert row is not None
    assert row["params"] == {"platforms": ["bet9ja"]}
    limits = await pool.fetchrow(
        "SELECT max_attempts, timeout_seconds FROM runs WHERE execution_id = $1", run_id
    )
    assert limits is not None
    assert tuple(limits) == (7, 1800)
    recorded = "SELECT action FROM audit_log WHERE execution_id = $1"
    assert await pool.fetchval(recorded, run_id) == "run"


async def test_a_database_without_the_tables_of_this_code_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    pool: Pool,
    dsn: str,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await pool.execute("UPDATE alembic_version SET version_num = '0001'")
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("REDIS_URL", redis_url)

    code = await anyio.to_thread.run_sync(run_request.main, ["scrape_all_platforms"])

    assert code == 2
    assert "0001" in capsys.readouterr().err
    assert await pool.fetchval("SELECT count(*) FROM runs") == 0


@pytest.mark.acceptance
@pytest.mark.parametrize(("wait", "code"), [("--wait", 2), ("", 0)])
def test_a_run_is_queued_and_not_waited_for_while_no_worker_is_alive(
    tmp_path: Path, wait: str, code: int
) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "enqueue.py"), "scrape_all_platforms"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, "--json", *wait.split()],
        cwd="/",
        env=_alone(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert "No worker is alive" in done.stderr
    assert json.loads(done.stdout)["status"] == "queued"


def test_a_job_that_does_not_exist_ends_with_2_before_any_server_is_started(
    tmp_path: Path,
) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "enqueue.py"), "scrape_nothing"]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=_alone(tmp_path), capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    known = "scrape_all_platforms, poll_news, poll_stories"
    assert done.stderr == f"there is no job 'scrape_nothing'; known: {known}\n"
    assert list(tmp_path.iterdir()) == []


def _alone(data_dir: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed on to the child
        if name not in {"DATABASE_URL", "REDIS_URL"}
    }
    return {**kept, "DATA_DIR": str(data_dir)}
