"""How the benchmark of dispatch counts. Nothing is timed here."""

import json
from datetime import UTC, datetime, timedelta

from app.scheduling.schedule import Schedule
from scripts.bench import dispatch, dispatch_orgs

TICK = datetime(2026, 9, 5, 12, 34, tzinfo=UTC)


def test_the_figures_keep_their_names() -> None:
    one = dispatch.Figures(100, 1, 2.5, 0, 0, 1.0, 2.0, 9)

    result = json.loads(json.dumps(dispatch.plain([one], 3.456)))

    first = {"due": 100, "workers": 1, "seconds": 2.5, "duplicates": 0, "idle_db_ms_per_s": 3.46}
    assert {name: result[name] for name in first} == first
    assert [each["workers"] for each in result["each"]] == [1]


def test_every_schedule_names_the_one_minute_and_none_soon_after() -> None:
    schedules = [Schedule.from_spec(json.loads(spec)) for spec in dispatch_orgs.specs(TICK)]

    firsts = {one.next(TICK - timedelta(minutes=1)) for one in schedules}
    seconds = {one.next(TICK) for one in schedules}

    assert len({one.rule for one in schedules}) == 30
    assert firsts == {TICK}
    assert min(seconds) >= TICK + timedelta(hours=1)
