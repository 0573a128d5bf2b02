"""What a rule would do, before it is chosen."""

from datetime import UTC, datetime

import pytest

from app.core import zone_data
from app.store.db import Pool
from app.store.schedules import zones
from tests.api.clients import Visitor, fields, problem
from tests.clock import SettableClock

PREVIEW = "/collection/schedule/preview"


async def test_a_preview_says_the_next_ten_instants_on_both_clocks_and_in_words(
    visitor: Visitor,
) -> None:
    asked = {"cron": "30 7 * * MON-FRI", "timezone": "Europe/Berlin"}

    said = (await visitor("GET", PREVIEW, params=asked)).json()

    assert (said["cron_expression"], said["timezone"]) == (asked["cron"], asked["timezone"])
    assert "Europe/Berlin" in said["words"]
    assert len(said["instants"]) == 10
    assert said["instants"][0] == {
        "utc": "2026-09-07T05:30:00Z",
        "local": "2026-09-07T07:30:00+02:00",
        "moved": False,
        "note": None,
    }


async def test_an_instant_that_a_clock_change_moves_is_marked(
    visitor: Visitor, clock: SettableClock
) -> None:
    clock.now = datetime(2027, 3, 27, 12, tzinfo=UTC)

    asked = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    first, second, *_ = (await visitor("GET", PREVIEW, params=asked)).json()["instants"]

    assert (first["utc"], first["local"]) == ("2027-03-28T01:00:00Z", "2027-03-28T03:00:00+02:00")
    assert first["moved"] is True
    assert "02:30" in first["note"]
    assert (second["utc"], second["moved"]) == ("2027-03-29T00:30:00Z", False)


async def test_an_instant_in_a_repeated_hour_says_which_of_the_two_it_is(
    visitor: Visitor, clock: SettableClock
) -> None:
    clock.now = datetime(2026, 10, 24, 12, tzinfo=UTC)

    asked = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    first, second, *_ = (await visitor("GET", PREVIEW, params=asked)).json()["instants"]

    assert (first["utc"], first["moved"]) == ("2026-10-25T00:30:00Z", False)
    assert "first" in first["note"]
    assert second["note"] is None


async def test_a_rule_that_follows_real_time_is_not_moved_by_a_clock_change(
    visitor: Visitor, clock: SettableClock
) -> None:
    clock.now = datetime(2027, 3, 28, 0, 10, tzinfo=UTC)

    asked = {"cron": "*/30 * * * *", "timezone": "Europe/Berlin"}
    instants = (await visitor("GET", PREVIEW, params=asked)).json()["instants"]

    assert [one["utc"][11:16] for one in instants[:3]] == ["00:30", "01:00", "01:30"]
    assert not any(one["moved"] for one in instants)


async def test_the_zone_is_utc_if_none_is_said(visitor: Visitor) -> None:
    said = (await visitor("GET", PREVIEW, params={"cron": "@daily"})).json()

    assert (said["cron_expression"], said["timezone"]) == ("0 0 * * *", "UTC")


async def test_a_rule_that_is_none_is_refused_as_when_it_is_chosen(visitor: Visitor) -> None:
    bad = await visitor("GET", PREVIEW, params={"cron": "61 * * * *"})
    nowhere = await visitor("GET", PREVIEW, params={"cron": "@daily", "timezone": "Mars/Base"})
    nothing = await visitor("GET", PREVIEW)

    assert problem(bad, 400)["detail"].startswith("Invalid cron expression: ")
    assert fields(nowhere) == ["timezone"]
    assert fields(nothing) == ["cron"]


@pytest.mark.parametrize("cron", ["0 0 29 2 *", "0 0 29 2 MON#5", "59 23 31 12 *"])
async def test_a_rare_rule_shows_its_next_instants(visitor: Visitor, cron: str) -> None:
    answer = await visitor("GET", PREVIEW, params={"cron": cron})

    assert answer.status_code == 200, answer.text
    assert 1 <= len(answer.json()["instants"]) <= 10


async def test_a_preview_is_by_the_newest_zone_data_that_any_worker_has(
    visitor: Visitor, pool: Pool
) -> None:
    asked = {"cron": "0 9 * * *", "timezone": "America/Vancouver"}
    data = zone_data.wheel_data("America/Anchorage")
    stamp = zone_data.stamp_of("9001a", data)
    await pool.execute(zones.SAVE, asked["timezone"], stamp, data)

    said = (await visitor("GET", PREVIEW, params=asked)).json()

    assert said["instants"][0]["utc"] == "2026-09-05T17:00:00Z"  # 09:00 in Anchorage
    assert said["instants"][0]["local"] == "2026-09-05T09:00:00-08:00"
