"""The schedules of the built-in jobs follow the settings, and contradictions are refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.core import config
from app.core.config import Config
from app.core.enums import Coalesce, Overlap
from app.core.errors import BadConfig
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from workers import news, odds, recipe_dir, registry, stories
from workers.job import Job

RECIPE = """name = "wares"
kind = "json"
url = "https://example.org/wares"

[schedule]
{}

[extract]
records = "data"

[extract.fields]
id = "id"

[store]
key = "id"
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without `.env`, and no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Config.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Config:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return config.load()


def test_without_settings_the_schedule_and_the_policies_are_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declared = odds.scrape_all_platforms.declared(load(monkeypatch))[0]

    assert declared.schedule == Schedule.every(300, name=odds.scrape_all_platforms.name)
    assert declared.policies == Policies()


@pytest.mark.parametrize(
    ("prefix", "job"),
    [
        ("SCRAPE", odds.scrape_all_platforms),
        ("NEWS", news.poll_news),
        ("STORIES", stories.poll_stories),
    ],
)
def test_each_job_takes_a_cron_expression_with_a_zone_and_policies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, job: Job
) -> None:
    (tmp_path / "holidays.ics").write_text(
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20261001\nEND:VEVENT\nEND:VCALENDAR\n"
    )
    settings = {
        "SCHEDULE": "*/7 6-23 * * *",
        "TIMEZONE": "Africa/Lagos",
        "EXCLUDE": "sun, 2026-12-25, holidays.ics",
        "START": "2026-09-01",
        "END": "2027-09-01",
        "OVERLAP": "queue_one",
        "COALESCE": "all",
        "CATCH_UP": "5",
        "MISFIRE_GRACE_SECONDS": "90",
        "JITTER_SECONDS": "20",
        "TIMEOUT_SECONDS": "100",
        "MAX_ATTEMPTS": "2",
    }

    loaded = load(monkeypatch, **{f"{prefix}_{name}": value for name, value in settings.items()})
    (declared,) = job.declared(loaded)

    policies = declared.policies
    assert declared.schedule == Schedule.cron("*/7 6-23 * * *", "Africa/Lagos", name=job.name)
    assert (policies.overlap, policies.coalesce) == (Overlap.QUEUE_ONE, Coalesce.ALL)
    assert (policies.catch_up, policies.timeout, policies.max_attempts) == (5, 100, 2)
    assert policies.misfire_grace == timedelta(seconds=90)
    assert policies.jitter == timedelta(seconds=20)
    assert policies.exclude.rules == ("sun", "2026-12-25", "2026-10-01/2026-10-01")
    exclusions = policies.exclude.compiled()
    assert exclusions.cover(datetime(2026, 9, 30, 23, 30, tzinfo=UTC)), "1 October in Lagos"
    assert exclusions.cover(datetime(2026, 8, 31, 22, 59, tzinfo=UTC)), "before the start"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"SCRAPE_SCHEDULE": "0 6 * * *", "SCRAPE_INTERVAL_MINUTES": "5"},
            "SCRAPE_SCHEDULE and SCRAPE_INTERVAL_MINUTES contradict each other",
        ),
        ({"NEWS_TIMEZONE": "Africa/Lagos"}, "NEWS_TIMEZONE has no effect without NEWS_END, "),
        ({"SCRAPE_SCHEDULE": "61 * * * *"}, 'minute "61"'),
        ({"SCRAPE_SCHEDULE": "0 6 * * *", "SCRAPE_TIMEZONE": "Mars/Base"}, "Mars/Base"),
        ({"SCRAPE_COALESCE": "all"}, "overlap=skip would skip"),
        ({"SCRAPE_CATCH_UP": "5"}, "coalesce=latest runs one"),
        ({"SCRAPE_JITTER_SECONDS": "300"}, "a jitter of 0:05:00 with a tick every 0:05:00"),
        ({"SCRAPE_MISFIRE_GRACE_SECONDS": "0"}, "misfire_grace"),
        ({"SCRAPE_OVERLAP": "maybe"}, "SCRAPE_OVERLAP"),
        ({"SCRAPE_EXCLUDE": "none.ics"}, "none.ics cannot be read: no such file or directory"),
        ({"SCRAPE_EXCLUDE": "mon-sun"}, "every hour of the week"),
        ({"SCRAPE_START": "2027-01-02", "SCRAPE_END": "2027-01-01"}, "is before start"),
    ],
)
def test_a_contradiction_is_refused_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(BadConfig) as refused:
        odds.scrape_all_platforms.declared(load(monkeypatch, **settings))[0]

    assert reason in str(refused.value)
    assert next(iter(settings)).split("_")[0] in str(refused.value)


def test_the_settings_of_all_jobs_are_refused_in_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(monkeypatch, SCRAPE_SCHEDULE="61 * * * *", NEWS_COALESCE="all")

    with pytest.raises(BadConfig) as refused:
        registry.load(loaded)

    first, second = str(refused.value).splitlines()
    assert first.startswith("Invalid settings SCRAPE_…: ")
    assert second.startswith("Invalid settings NEWS_…: ")


def test_contradictions_of_all_jobs_are_refused_in_one_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = {"STORIES_SCHEDULE": "0 6 * * *", "STORIES_INTERVAL_MINUTES": "5"}

    with pytest.raises(BadConfig) as refused:
        load(monkeypatch, NEWS_TIMEZONE="Africa/Lagos", MAX_JOBS="9", **both)

    _, first, second = str(refused.value).splitlines()
    assert first.startswith("  NEWS_TIMEZONE has no effect")
    assert second.startswith("  STORIES_SCHEDULE and STORIES_INTERVAL_MINUTES")


def test_a_recipe_sets_its_own_policies(tmp_path: Path) -> None:
    schedule = """cron = "0 6 * * *"
timezone = "Africa/Lagos"
overlap = "queue_one"
misfire_grace = "10m"
jitter = "2m"
timeout = "20m"
max_attempts = 5
exclude = [2026-12-25, "sat-sun"]
start = 2026-12-01
"""
    (tmp_path / "wares.toml").write_text(RECIPE.format(schedule))
    loaded = recipe_dir.load_file(tmp_path / "wares.toml")

    policies = recipe_dir.declare_schedule(Config(), loaded).policies

    assert loaded.faults == ()
    assert (policies.overlap, policies.max_attempts) == (Overlap.QUEUE_ONE, 5)
    assert (policies.misfire_grace, policies.jitter) == (
        timedelta(minutes=10),
        timedelta(minutes=2),
    )
    assert policies.timeout == 1200
    assert policies.exclude.rules == ("2026-12-25", "sat-sun")
    assert policies.exclude.compiled().start == datetime(2026, 11, 30, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('coalesce = "all"', "overlap=skip would skip"),
        ('jitter = "1h"', "a tick always starts before the next one"),
        ('exclude = ["christmas"]', "it takes a date"),
        ('exclude = ["none.ics"]', "none.ics cannot be read"),
        ('end = "2026-01-01"\nstart = "2026-02-01"', "is before start"),
    ],
)
def test_a_recipe_with_a_contradiction_is_refused_by_line(
    tmp_path: Path, line: str, reason: str
) -> None:
    (tmp_path / "wares.toml").write_text(RECIPE.format(f'every = "1h"\n{line}'))

    (fault,) = recipe_dir.load_file(tmp_path / "wares.toml").faults

    assert fault.startswith("wares.toml: line 5: schedule")
    assert reason in fault
