"""scripts/recount finds each seeded fault, agrees with `verify`, and imports nothing of `app`."""

import ast
import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.core.enums import Overlap
from app.core.errors import BadSchedule
from app.ledger import proof
from app.ledger.edit import DeclaredSchedule
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from scripts import recount
from scripts.drill import judge
from scripts.recount import Count
from tests.clock import NOON, SettableClock
from tests.ledger.harness import BREAKAGES, MINUTE, VERSION_TOO, Book, every

SCRIPT = Path(recount.__file__)


@pytest.fixture
async def book(pool: Pool, clock: SettableClock) -> Book:
    """Five ticks that ran, 12:01 to 12:05, three that were missed, and one more that ran."""
    opened = Book(pool, clock)
    await opened.beating(NOON - MINUTE, NOON + 5 * MINUTE)
    await opened.open(every(1))
    await opened.ring_each(5)
    await opened.ring(after=timedelta(minutes=3, seconds=61))
    return opened


async def counted(book: Book, dsn: str) -> Count:
    (count,) = await recount.recount(dsn)
    (account,) = await proof.verify(book.pool, book.clock())
    assert (count.expected, count.unaccounted, count.invented, count.doubled > 0) == (
        account.expected,
        account.unaccounted,
        account.unexpected,
        account.duplicates > 0,
    )
    return count


async def test_a_correct_ledger_is_sound(book: Book, dsn: str) -> None:
    count = await counted(book, dsn)

    assert count.sound
    assert count.outcomes == {"ran": 6, "missed:scheduler_down": 3}
    assert count.faults == []


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("DELETE FROM ticks WHERE outcome = 'missed'", "unaccounted"),
        ("UPDATE ticks SET scheduled_for = scheduled_for + '1 s' WHERE outcome = 'missed'", "both"),
        (
            "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)"
            " SELECT schedule_id, scheduled_for + '7 s', version, 'skipped', 'paused', decided_at"
            " FROM ticks LIMIT 1",
            "invented",
        ),
        (
            "INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version, outcome,"
            " reason, decided_at) SELECT schedule_id, min(scheduled_for), max(scheduled_for), 9, 1,"
            " 'skipped', 'paused', now() FROM ticks GROUP BY 1",
            "doubled",
        ),
        (
            "UPDATE ticks SET outcome = 'missed', reason = 'late', run_id = NULL"
            " WHERE scheduled_for = (SELECT min(scheduled_for) FROM ticks)",
            "doubled",
        ),
        ("DELETE FROM runs", "contradicted"),
        ("UPDATE worker_beats SET until = until + interval '1 hour'", "contradicted"),
        ("UPDATE ticks SET reason = 'late' WHERE outcome = 'missed'", "contradicted"),
        (
            "UPDATE ticks SET outcome = 'skipped', reason = 'overlap',"
            " blocking_run_id = (SELECT execution_id FROM runs ORDER BY completed_at LIMIT 1)"
            " WHERE outcome = 'missed'",
            "contradicted",
        ),
    ],
)
async def test_each_seeded_fault_is_found(book: Book, dsn: str, sql: str, fault: str) -> None:
    await book.pool.execute(sql)

    count = await counted(book, dsn)

    names = ("unaccounted", "invented", "doubled", "contradicted")
    found = {name for name in names if getattr(count, name)}
    assert not count.sound
    assert found >= ({"unaccounted", "invented"} if fault == "both" else {fault})
    assert count.faults


async def test_the_drill_reports_where_recount_and_verify_differ(book: Book, dsn: str) -> None:
    accounts = await proof.verify(book.pool, book.clock())
    assert judge.differences(accounts, await recount.recount(dsn)) == []

    await book.pool.execute("DELETE FROM ticks WHERE outcome = 'missed'")

    differ, *faults = judge.differences(accounts, await recount.recount(dsn))
    assert differ.startswith("scrape: verify says (9, 0, 0) ticks")
    assert faults


async def test_a_gap_is_counted_by_its_ticks(pool: Pool, clock: SettableClock, dsn: str) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    await book.pause()
    await book.ring_each(60)
    assert (await counted(book, dsn)).outcomes == {"skipped:paused": 60}

    await pool.execute("UPDATE tick_gaps SET count = count - 4")

    assert (await counted(book, dsn)).unaccounted == 4


async def test_ticks_are_derived_from_the_zone_data_of_their_version() -> None:
    tokyo = resources.files("tzdata").joinpath("zoneinfo/Asia/Tokyo").read_bytes()
    count = Count(1, "a")
    version = {
        "version": 1, "policies": "{}",
        "spec": json.dumps(Schedule.cron("0 9 * * *", "Europe/Paris").to_spec()),
        "data": tokyo, "since": NOON, "until": NOON + timedelta(days=1),
        "pruned_expected": 0, "pruned": "{}",
    }  # fmt: skip
    nine_in_tokyo = NOON + timedelta(hours=12)
    answer = (nine_in_tokyo, nine_in_tokyo, 1, "skipped", "paused")

    recount._compare(count, version, [answer], [])  # pyright: ignore[reportPrivateUsage] - no other way in
    today = Count(1, "a")
    recount._compare(today, version | {"data": None}, [answer], [])  # pyright: ignore[reportPrivateUsage] - as above

    assert (count.sound, count.expected) == (True, 1)
    assert (today.invented, today.unaccounted) == (1, 1)


FIELDS = ("*", "*/7", "5", "1-4", "0-20/3", "2,7", "3/4")
ZONES = ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo")


@pytest.mark.parametrize("seed", range(4))
def test_its_arithmetic_names_the_instants_of_the_product(seed: int) -> None:
    rnd = random.Random(seed)  # noqa: S311 - examples, not secrets
    for _ in range(40):
        days = (
            rnd.choice(("*", "*", "L", "LW,15", "1-10/3")),
            rnd.choice(("*", "MON-FRI", "5L,SUN#1")),
        )
        expression = f"{rnd.choice(FIELDS)} {rnd.choice(FIELDS)} {days[0]} * {days[1]}"
        try:
            schedule = Schedule.cron(expression, rnd.choice(ZONES))
        except BadSchedule:
            continue
        after = datetime(rnd.choice((2011, 2018, 2026)), rnd.choice((3, 10, 12)), 20, tzinfo=UTC)
        until = after + timedelta(days=20)

        assert recount.expected_ticks(schedule.to_spec(), after, until) == list(
            schedule.ticks(after, until)
        ), schedule


RULES = (
    ["2026-09-05"],
    ["2026-09-01/2026-09-04", "2026-09-07"],
    ["2026-09-05T10:00/2026-09-06T11:30"],
    ["2026-09-05T10:00+00:00/2026-09-06T11:30+00:00"],
    ["sat-sun"],
    ["fri-mon 22:00 - 06:00"],
    ["9:00-10:30", "wed 12:00-24:00"],
    ["sun 23:30-0:30", "2026-09-09"],
)


@pytest.mark.parametrize("rules", RULES, ids=" ".join)
@pytest.mark.parametrize("bounds", [("", ""), ("2026-09-05", "2026-09-10T12:00Z")], ids=str)
async def test_it_derives_exclusions_anew_and_finds_outcomes_against_them(
    pool: Pool, clock: SettableClock, dsn: str, rules: list[str], bounds: tuple[str, str]
) -> None:
    exclude = Exclusions.parse(rules, "Australia/Lord_Howe", *bounds)
    zoned = Schedule.cron("17,47 */2 * * *", "Australia/Lord_Howe", name="scrape")
    clock.now = NOON - timedelta(days=2)
    book = Book(pool, clock)
    policies = Policies(exclude=exclude, overlap=Overlap.ALLOW)
    await book.open(DeclaredSchedule("scrape", "job", zoned, policies))
    for _ in range(8):
        await book.ring(after=timedelta(days=1))

    sound = await counted(book, dsn)
    excluded = sound.outcomes["skipped:excluded"]
    ran = await pool.execute(
        "UPDATE ticks SET outcome = 'skipped', reason = 'coalesced', run_id = NULL"
        " WHERE scheduled_for = (SELECT min(scheduled_for) FROM ticks WHERE reason = 'excluded')"
    )

    assert (sound.sound, sound.faults) == (True, [])
    assert 0 < excluded < sound.expected
    if ran != "UPDATE 0":
        assert (await counted(book, dsn)).contradicted == 1


@pytest.mark.parametrize("timezone", ["Europe/Berlin", "Pacific/Apia"])
def test_it_reads_local_timestamps_at_clock_changes_as_the_product_does(timezone: str) -> None:
    rules = ["2026-10-25T02:30/2026-10-25T03:00", "2011-12-30T10:00/2011-12-30T15:00"]
    exclude = Exclusions(tuple(rules), timezone, "2011-12-30T08:00", "2026-10-25T02:45")
    spec, zone = exclude.to_spec(), ZoneInfo(timezone)
    hours = [datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2011, 12, 29, 12, tzinfo=UTC)]
    instants = [hour + number * MINUTE * 15 for hour in hours for number in range(200)]

    for at in instants:
        assert recount._excluded(spec, zone, at) == exclude.compiled().cover(at), at  # pyright: ignore[reportPrivateUsage] - no other way in


@pytest.mark.parametrize("statement", BREAKAGES)
async def test_what_cannot_be_read_stops_no_count(book: Book, dsn: str, statement: str) -> None:
    await book.pool.execute(statement)
    await book.pool.execute(VERSION_TOO)

    count = await counted(book, dsn)

    assert count.sound
    assert count.outcomes.total() == count.expected == 9


async def test_a_tick_skipped_as_excluded_without_exclusions_is_contradicted(
    book: Book, dsn: str
) -> None:
    await book.pool.execute(
        "UPDATE ticks SET outcome = 'skipped', reason = 'excluded' WHERE outcome = 'missed'"
    )

    assert (await counted(book, dsn)).contradicted == 3


def test_it_imports_nothing_of_the_product_and_is_short() -> None:
    text = SCRIPT.read_text()
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imports = {name.split(".")[0] for name in names}

    assert not imports - sys.stdlib_module_names - {"asyncpg", "tzdata"}
    assert len(text.splitlines()) <= 250


async def test_the_command_prints_json_and_its_exit_code(book: Book, dsn: str) -> None:
    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "scripts.recount", *options]
        return subprocess.run(  # noqa: S603 - our own script
            command, cwd=SCRIPT.parents[1], env={}, capture_output=True, text=True, check=False
        )

    sound = run("--database-url", dsn, "--json")
    await book.pool.execute("DELETE FROM ticks WHERE outcome = 'missed'")
    broken, unset = run("--database-url", dsn), run()

    assert sound.returncode == 0
    assert json.loads(sound.stdout)["sound"] is True
    assert (broken.returncode, "3 unaccounted" in broken.stdout) == (1, True)
    assert (unset.returncode, "DATABASE_URL" in unset.stderr) == (2, True)
