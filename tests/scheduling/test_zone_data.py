"""The zone data of the wheel is what every process uses."""

import itertools
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.core import zone_data
from app.core.errors import BadSchedule
from app.scheduling.cron import MAX_SPAN
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule

PROJECT = Path(__file__).parents[2]
ENTRY_POINTS = ("app.workers.settings", "app.web", "app.cli.main", "app.migrations", "app.embedded")


def test_zoneinfo_does_not_ask_the_system() -> None:
    assert zoneinfo.TZPATH == ()


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_every_entry_point_reads_the_wheel_even_if_a_path_is_set(
    module: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "America"
    wrong.mkdir()
    (wrong / "Vancouver").write_bytes(zone_data.wheel_data("Asia/Tokyo"))
    code = (
        f"import zoneinfo; zoneinfo.ZoneInfo('America/Vancouver'); import {module};"
        " from datetime import datetime; print(datetime(2026, 1, 1,"
        " tzinfo=zoneinfo.ZoneInfo('America/Vancouver')).utcoffset())"
    )

    said = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={"PYTHONTZPATH": str(tmp_path), "DATABASE_URL": "postgresql://x/y"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.stdout.strip() == "-1 day, 16:00:00", said.stderr


def test_no_two_changes_of_an_offset_are_closer_than_the_cron_search_assumes() -> None:
    hour = timedelta(hours=1)
    for name in ("America/Recife", "Asia/Gaza", "America/Boa_Vista", "Africa/Tunis"):
        zone = zone_data.zone(name)
        changes: list[datetime] = []
        at, end = datetime(1940, 1, 1, tzinfo=UTC), datetime(2075, 1, 1, tzinfo=UTC)
        offset = at.astimezone(zone).utcoffset()
        while at < end:
            at += 6 * hour
            if (now := at.astimezone(zone).utcoffset()) != offset:
                changes.append(at)
                offset = now
        gaps = [later - earlier for earlier, later in itertools.pairwise(changes)]
        assert min(gaps) > MAX_SPAN + 12 * hour, name


def test_a_stamp_names_version_and_content() -> None:
    stamp = zone_data.wheel_stamp("Europe/Berlin")

    assert stamp.startswith(f"{zone_data.VERSION}-")
    assert zone_data.same_data(stamp, f"1999a-{stamp.partition('-')[2]}")
    assert not zone_data.same_data(stamp, zone_data.wheel_stamp("Asia/Tokyo"))


def test_data_that_was_added_is_used_for_its_stamp_only() -> None:
    data = zone_data.wheel_data("Asia/Tokyo")
    stamp = zone_data.stamp_of("1999a", data)
    zone_data.add("Europe/Berlin", stamp, data)
    schedule = Schedule.cron("0 9 * * *", "Europe/Berlin")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    assert schedule.with_stamp(stamp).next(noon).hour == 0
    assert schedule.next(noon).hour == 8


def test_exclusions_are_read_by_the_data_of_a_schedule_in_their_zone_only() -> None:
    data = zone_data.wheel_data("Asia/Tokyo")
    stamp = zone_data.stamp_of("1999b", data)
    zone_data.add("Europe/Berlin", stamp, data)
    policies = Policies(exclude=Exclusions.parse(["9:00-10:00"], "Europe/Berlin"))
    nine_in_tokyo = datetime(2026, 1, 1, 0, tzinfo=UTC)
    nine_in_berlin = datetime(2026, 1, 1, 8, tzinfo=UTC)
    here, there = (Schedule.cron("0 * * * *", zone) for zone in ("Europe/Berlin", "Africa/Lagos"))

    assert policies.excludes(here.with_stamp(stamp), nine_in_tokyo)
    assert not policies.excludes(here.with_stamp(stamp), nine_in_berlin)
    assert policies.excludes(here, nine_in_berlin)
    other = there.with_stamp(zone_data.wheel_stamp("Africa/Lagos"))
    assert policies.excludes(other, nine_in_berlin)
    assert not policies.excludes(other, nine_in_tokyo)


def test_an_interval_has_zone_data_only_with_a_zone() -> None:
    stamp = zone_data.wheel_stamp("Europe/Berlin")
    plain = Schedule.every(60)

    assert plain.with_stamp(stamp) == plain
    assert plain.in_zone("Europe/Berlin").stamp == zone_data.UNKNOWN_STAMP
    assert plain.in_zone("Europe/Berlin").with_stamp(stamp).stamp == stamp
    with pytest.raises(BadSchedule):
        plain.in_zone("Europe/Nowhere").with_stamp(stamp)
