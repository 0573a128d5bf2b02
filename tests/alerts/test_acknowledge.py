"""Acknowledged and snoozed alerts: silent until they recover, get worse, or the snooze ends."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis

from app.core.enums import RunStatus, Scope
from app.core.errors import WrongState
from app.health.alerts import acknowledge
from app.health.alerts.compose import AlertChannel, AlertPolicy
from app.health.alerts.job_state import RecordedState, is_worse
from app.health.alerts.watch import AlertContext, check
from app.health.alerts.watcher import alert_policy
from app.health.facts import JobFacts
from app.health.keys import write_jobs, write_worker
from app.store.db import Pool
from app.store.reports.acknowledgements import Acknowledged
from tests.alerts.states import NOW, POLICY, ago, ill, reported, well
from tests.alerts.watching import BEAT, facts, silent
from tests.commands.conftest import Rollcall, rollcall, surroundings
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.dashboard.conftest import site
from tests.dashboard.server import Site, csrf_of

__all__ = ["rollcall", "site", "surroundings"]
DAY = 24 * 3600


def known(key: str, *, until: float | None = None, reason: str = "overdue") -> RecordedState:
    """An alert of more than a day ago that was acknowledged as `reason`."""
    return replace(
        ill(key, 3 * DAY, reported=2 * DAY),
        acknowledged_at=ago(DAY + 60),
        acknowledged_by="ada",
        acknowledged_note="known",
        acknowledged_reason=reason,
        snoozed_until=None if until is None else ago(until),
    )


def test_an_acknowledged_alert_sends_no_reminder_and_its_recovery_is_told() -> None:
    assert reported(ill("a", 3 * DAY, reported=2 * DAY)) == ([], ["a"], [])
    assert reported(known("a")) == ([], [], [])
    assert reported(well("a", 60, was_ill=3 * DAY)) == ([], [], ["a"])


def test_one_acknowledged_before_it_was_told_is_not_told() -> None:
    assert reported(replace(known("a"), told_at=None)) == ([], [], [])


def test_one_that_got_worse_is_told_as_new() -> None:
    assert reported(known("a", reason="source_failing: bet9ja")) == (["a"], [], [])


def test_a_snooze_ends_by_itself_also_without_reminders() -> None:
    never = replace(POLICY, remind=None)

    assert reported(known("a", until=-60)) == ([], [], [])
    assert reported(known("a", until=0)) == ([], ["a"], [])
    assert reported(known("a", until=60), policy=never) == ([], ["a"], [])


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ("failing", "failing", False),
        ("source_failing: a", "failing", True),
        ("failing", "source_failing: a", False),
        ("source_failing: a, b", "source_failing: b", False),
        ("source_failing: a", "source_failing: a, b", True),
        ("late", "source_failing: a", True),
        ("failing", "overdue", True),
        ("overdue", "late", False),
        ("no_workers", "redis_unreachable", True),
        ("stale_data: a", "stale_data: a", False),
    ],
)
def test_worse_is_graver_or_other_or_more(before: str, after: str, worse: bool) -> None:
    assert is_worse(before, after) is worse


@pytest.fixture
def watched(pool: Pool, redis: ArqRedis) -> AlertContext:
    """A watch that groups nothing, reminds at once and queues for one channel."""
    return AlertContext(
        pool,
        redis,
        policy=AlertPolicy(group=0, remind=timedelta(0)),
        channels=[AlertChannel("json-1")],
    )


async def titles(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT title FROM notifications ORDER BY id")
    return [row["title"].removeprefix("[rollcall] ") for row in rows]


def failing() -> JobFacts:
    now = datetime.now(UTC)
    return facts(
        last_status=RunStatus.FAILURE,
        last_success=now - timedelta(hours=3),
        unhealthy_streak=9,
    )


async def now_of(pool: Pool) -> datetime:
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    return now


async def play(watched: AlertContext, state: JobFacts) -> None:
    await write_worker(watched.redis, "w", 60, BEAT)
    await write_jobs(watched.redis, [("poll", state)])
    await check(watched)


async def test_the_watch_is_silent_from_the_acknowledgement_to_the_recovery(
    pool: Pool, watched: AlertContext
) -> None:
    await play(watched, facts())
    await play(watched, silent())
    await play(watched, silent())
    before = await titles(pool)

    await acknowledge.acknowledge(pool, "poll", Acknowledged(await now_of(pool), "ada", "known"))
    for _ in range(3):
        await play(watched, silent())
    during = await titles(pool)
    await play(watched, facts())
    await play(watched, facts())
    await play(watched, silent())

    assert before == ["poll is overdue", "poll is still unhealthy"]
    assert during == before
    assert await titles(pool) == [*before, "poll is healthy again", "poll is overdue"]
    row = await pool.fetchrow('SELECT action, "by", job, reason FROM audit_log')
    assert row is not None
    assert tuple(row) == ("acknowledge", "ada", "poll", "known")


async def test_a_snooze_ends_with_a_reminder_that_names_it(
    pool: Pool, watched: AlertContext
) -> None:
    await play(watched, facts())
    await play(watched, silent())
    now = await now_of(pool)
    await acknowledge.acknowledge(
        pool, "poll", Acknowledged(now, "ada", "their maintenance", now + timedelta(hours=1))
    )
    await play(watched, silent())
    during = await titles(pool)

    await pool.execute("UPDATE health_states SET snoozed_until = now() WHERE key = 'poll'")
    await play(watched, silent())

    body = await pool.fetchval("SELECT body FROM notifications ORDER BY id DESC LIMIT 1")
    assert during == ["poll is overdue"]
    assert await titles(pool) == ["poll is overdue", "poll is still unhealthy"]
    assert "It outlasted a snooze by ada: their maintenance" in body
    assert (
        await pool.fetchval("SELECT count(*) FROM health_states WHERE snoozed_until > '-infinity'")
        == 0
    )


async def test_what_is_healthy_cannot_be_acknowledged_nor_released(
    pool: Pool, watched: AlertContext
) -> None:
    await play(watched, facts())

    with pytest.raises(WrongState, match="there is no alert of poll"):
        await acknowledge.acknowledge(pool, "poll", Acknowledged(NOW, "ada", "known"))
    with pytest.raises(WrongState, match="not acknowledged"):
        await acknowledge.release(pool, "poll", NOW, "ada")
    assert await pool.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_what_alerts_an_organisation_is_not_acknowledged_by_the_operator(pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO health_states (key, status, ill, since, flipped_at, sequence)"
        " VALUES ('collection:acme', 'unhealthy', true, $1, $1, 1)",
        NOW,
    )

    with pytest.raises(WrongState, match="there is no alert of collection:acme"):
        await acknowledge.acknowledge(pool, "collection:acme", Acknowledged(NOW, "ada", "known"))


async def test_the_commands_list_acknowledge_and_release(
    pool: Pool, watched: AlertContext, rollcall: Rollcall
) -> None:
    await play(watched, silent())

    refused = await rollcall("acknowledge", "poll", "--note", "x", "--until", "2020-01-01")
    done = await rollcall("acknowledge", "poll", "--note", "known", "--until", "2999-01-01")
    await pool.execute("UPDATE health_states SET ill_since = '2020-01-01T00:00:00Z'")
    listed = await rollcall("alerts", "--json")
    released = await rollcall("unacknowledge", "poll")

    (alert,) = json.loads(listed.stdout)
    assert refused.exit_code == 2
    assert done.stdout == "no reminder of poll is sent until 2999-01-01 00:00:00 UTC\n"
    assert (alert["job"], alert["reason"], alert["note"]) == ("poll", "overdue", "known")
    assert alert["until"].startswith("2999-01-01")
    assert alert["since"].startswith("2020-01-01")
    assert released.exit_code == 0
    actions = [row[0] for row in await pool.fetch("SELECT action FROM audit_log ORDER BY id")]
    assert actions == ["snooze", "unacknowledge"]


async def test_the_page_acknowledges_with_a_reason_and_shows_who(
    watched: AlertContext, site: Site
) -> None:
    await play(watched, silent())

    async with site.signed_in(Scope.OPERATE) as visitor:
        form = {"csrf": csrf_of(visitor), "note": "<b>known</b>"}
        nameless = await visitor.post("/alerts/poll/acknowledge", data=form | {"note": " "})
        done = await visitor.post("/alerts/poll/acknowledge", data=form)
        page = (await visitor.get("/alerts")).text
        audit = (await visitor.get("/audit")).text
        released = await visitor.post("/alerts/poll/release", data=form)
        again = await visitor.post("/alerts/poll/release", data=form)
        odd = [
            await visitor.post(f"/alerts/%00/{action}", data=form)
            for action in ("acknowledge", "release")
        ]

    assert nameless.status_code == 422
    assert done.headers["location"] == "/alerts?done=acknowledge"
    assert "Acknowledged by operator/ann" in page
    assert "&lt;b&gt;known&lt;/b&gt;" in page
    assert '<td role="cell">acknowledge</td>' in audit
    assert released.headers["location"] == "/alerts?done=release"
    assert again.status_code == 409
    assert [answer.status_code for answer in odd] == [400, 400]


async def test_the_command_and_the_page_list_the_oldest_alert_first(
    pool: Pool, watched: AlertContext, rollcall: Rollcall, site: Site
) -> None:
    await write_worker(watched.redis, "w", 60, BEAT)
    await write_jobs(watched.redis, [(name, silent()) for name in ("b", "a", "c", "d")])
    await check(watched)
    for name, days in (("a", 1), ("b", 2), ("c", 3), ("d", 2)):
        await pool.execute(
            "UPDATE health_states SET ill_since = now()::date - $2::int WHERE key = $1", name, days
        )

    listed = json.loads((await rollcall("alerts", "--json")).stdout)
    shown = (await rollcall("alerts")).stdout.splitlines()
    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get("/alerts")).text

    assert [alert["job"] for alert in listed] == ["c", "b", "d", "a"]
    assert [line.split()[0] for line in shown[1:]] == ["c", "b", "d", "a"]
    assert re.findall(r'<h2 id="alert-\d+"><a href="/jobs/(\w)"', page) == ["c", "b", "d", "a"]


async def test_the_page_lists_the_newest_change_of_health_first(
    pool: Pool, watched: AlertContext, site: Site
) -> None:
    await play(watched, silent())
    for name, minutes in (("a", 2), ("b", 1), ("c", 3)):
        await pool.execute(
            "INSERT INTO health_flips (key, sequence, at, before, after, since)"
            " VALUES ($1, 1, now() + $2 * interval '1 minute', 'healthy', 'unhealthy', now())",
            name,
            minutes,
        )

    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get("/alerts")).text

    flips = page.split('<h2 id="flips">')[1]
    assert re.findall(r'class="job"><a href="/jobs/(\w+)"', flips) == ["c", "a", "b", "poll"]


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (24, "A reminder is sent every 24 h while something is unhealthy and not acknowledged."),
        (1.5, "A reminder is sent every 1.5 h while"),
        (0, "No reminders are sent: ALERT_REMIND_HOURS is 0."),
    ],
)
async def test_the_page_says_how_often_it_is_reminded(
    pool: Pool, dsn: str, redis_url: str, redis: ArqRedis, hours: float, said: str
) -> None:
    del redis
    config = config_for(dsn, redis_url, alert_remind_hours=hours)
    async with sites.opened(config, pool) as opened, opened.signed_in(Scope.READ) as visitor:
        page = (await visitor.get("/alerts")).text

    assert said in page


@pytest.mark.parametrize(("hours", "expected"), [(1.5, timedelta(minutes=90)), (0, None)])
def test_the_setting_is_the_interval_of_reminders_and_zero_means_none(
    hours: float, expected: timedelta | None
) -> None:
    config = config_for("postgresql://nowhere", "redis://nowhere", alert_remind_hours=hours)

    assert alert_policy(config).remind == expected


async def test_a_reader_acknowledges_nothing(watched: AlertContext, site: Site) -> None:
    await play(watched, silent())

    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get("/alerts")).text
        refused = await visitor.post(
            "/alerts/poll/acknowledge", data={"csrf": csrf_of(visitor), "note": "x"}
        )

    assert "/acknowledge" not in page
    assert refused.status_code == 403
