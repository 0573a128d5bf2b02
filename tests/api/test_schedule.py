"""The schedule of an organisation, as it is chosen over HTTP."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.collection_keys import schedule_key
from app.core.enums import Scope
from app.ledger import decide, proof
from app.store.db import Pool
from app.web.throttle import ChangeThrottle
from tests.api.clients import NEWS, ODDS, SCHEDULE, Org, Visitor, fields, had_run, preset, problem
from tests.clock import NOON, SettableClock

DEFAULTS = {
    "id": None,
    "preset_id": None,
    "preset_name": None,
    "cron_expression": "0 6 * * *",
    "timezone": "UTC",
    "enabled": False,
    "notify": False,
    "overlap": None,
    "coalesce": None,
    "catch_up": None,
    "misfire_grace_seconds": None,
    "jitter_seconds": None,
    "timeout_seconds": None,
    "max_attempts": None,
    "exclude": None,
    "start": None,
    "end": None,
    "last_run_at": None,
    "last_status": None,
    "next_run_at": None,
}


async def edits(pool: Pool, org: Org) -> list[str]:
    rows = await pool.fetch(
        "SELECT action FROM schedule_edits WHERE org_id = $1 ORDER BY id", org.id
    )
    return [row["action"] for row in rows]


async def ticks(pool: Pool, org: Org) -> dict[str, str]:
    rows = await pool.fetch(
        "SELECT t.* FROM ticks t JOIN schedules s ON s.id = t.schedule_id WHERE s.org_id = $1",
        org.id,
    )
    return {f"{row['scheduled_for']:%d. %H:%M}": row["reason"] or row["outcome"] for row in rows}


async def test_an_organisation_without_a_schedule_reads_the_defaults(visitor: Visitor) -> None:
    answer = await visitor("GET", SCHEDULE)

    assert (answer.status_code, answer.json()) == (200, DEFAULTS)
    assert answer.headers["etag"] == '"0"'


async def test_a_change_is_answered_in_the_same_shape_and_read_again(visitor: Visitor) -> None:
    answer = await visitor.patch(
        preset_id=ODDS,
        cron_expression="30 7 * * MON-FRI",
        timezone="Europe/Berlin",
        enabled=True,
        notify=True,
    )

    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert set(said) == set(DEFAULTS)
    assert said["preset_name"] == "odds"
    assert said["next_run_at"] == "2026-09-07T05:30:00Z"
    assert (said["enabled"], said["notify"]) == (True, True)
    assert await visitor.schedule() == said
    assert answer.headers["etag"] == '"1"'


@pytest.mark.parametrize(
    "change",
    [
        {"enabled": True},
        {"notify": True},
        {"timezone": "Africa/Lagos"},
        {"cron_expression": "*/5 * * * *"},
        {"preset_id": NEWS},
    ],
)
async def test_each_field_can_be_said_alone_and_leaves_the_others(
    visitor: Visitor, change: dict[str, Any]
) -> None:
    answer = await visitor.patch(**change)

    assert answer.status_code == 200, answer.text
    kept = set(DEFAULTS) - set(change) - {"id", "preset_name", "next_run_at"}
    said = answer.json()
    assert {name: said[name] for name in kept} == {name: DEFAULTS[name] for name in kept}
    assert {name: said[name] for name in change} == change


async def test_saying_nothing_new_writes_nothing(visitor: Visitor, pool: Pool, org: Org) -> None:
    empty = await visitor.patch()
    await visitor.patch(notify=True)

    again = await visitor.patch(notify=True, cron_expression="0  6 * * *")

    assert empty.json() == DEFAULTS
    assert again.headers["etag"] == '"1"'
    assert await edits(pool, org) == ["created"]


async def test_a_preset_may_be_chosen_no_more(visitor: Visitor) -> None:
    await visitor.patch(preset_id=ODDS)

    answer = await visitor.patch(preset_id=None)

    assert (answer.json()["preset_id"], answer.json()["preset_name"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"enabeld": True}, "enabeld"),
        ({"id": 5}, "id"),
        ({"last_run_at": None}, "last_run_at"),
        ({"next_run_at": "2026-09-07T05:30:00Z"}, "next_run_at"),
        ({"enabled": None}, "enabled"),
        ({"enabled": "true"}, "enabled"),
        ({"enabled": 1}, "enabled"),
        ({"notify": None}, "notify"),
        ({"notify": "yes"}, "notify"),
        ({"cron_expression": None}, "cron_expression"),
        ({"cron_expression": 5}, "cron_expression"),
        ({"timezone": None}, "timezone"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "right/UTC"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"preset_id": "odds"}, "preset_id"),
        ({"preset_id": 7}, "preset_id"),
        ({"preset_id": "00000000-0000-4000-8000-00000000dead"}, "preset_id"),
    ],
)
async def test_what_cannot_be_taken_is_422_with_the_field_named_and_nothing_is_saved(
    visitor: Visitor, pool: Pool, org: Org, change: dict[str, Any], field: str
) -> None:
    answer = await visitor.patch(**({"notify": True} | change))

    assert fields(answer) == [field]
    assert answer.json()["detail"].startswith(f"{field}: ")
    assert await visitor.schedule() == DEFAULTS
    assert await edits(pool, org) == []


async def test_every_field_at_fault_is_named(visitor: Visitor) -> None:
    answer = await visitor.patch(enabled="no", timezone="Mars/Base", id=1)

    assert sorted(fields(answer)) == ["enabled", "id", "timezone"]


async def test_someone_elses_preset_is_as_unknown_as_none(
    visitor: Visitor, api: httpx.AsyncClient, other: Org
) -> None:
    theirs = await preset(Visitor(api, other.secrets[Scope.ADMIN]))
    nobodys = "00000000-0000-4000-8000-00000000dead"

    answers = [await visitor.patch(preset_id=one) for one in (theirs, nobodys)]

    said = [
        problem(answer, 422)["detail"].replace(one, "ID")
        for answer, one in zip(answers, (theirs, nobodys), strict=True)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("61 * * * *", 'minute "61"; it takes 0-59'),
        ("* * *", "3 fields"),
        ("0 0 31 2 *", "does not exist"),
        ("@reboot", "none of"),
        ("   ", "0 fields"),
        ("x" * 400, "1 fields"),
    ],
)
async def test_an_invalid_cron_expression_is_400_and_says_where_and_why(
    visitor: Visitor, expression: str, says: str
) -> None:
    answer = await visitor.patch(cron_expression=expression, notify=True)

    detail = problem(answer, 400)["detail"]
    assert detail.startswith("Invalid cron expression: ")
    assert says in detail
    assert await visitor.schedule() == DEFAULTS


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"notify": NaN}', "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b'"x"', "application/json", 422),
        (b'{"timezone": "\\u0000"}', "application/json", 422),
        (b'{"\\u0000": 1}', "application/json", 422),
        (b'{"notify": true}', "text/plain", 415),
        (b'{"notify": true}', "", 415),
        (b"notify=true", "application/x-www-form-urlencoded", 415),
        (b'{"timezone": "' + b"x" * 70_000 + b'"}', "application/json", 413),
    ],
)
async def test_a_body_that_is_none_is_refused_by_name(
    visitor: Visitor, content: bytes, kind: str, status: int
) -> None:
    answer = await visitor("PATCH", SCHEDULE, content=content, headers={"content-type": kind})

    problem(answer, status)


async def test_a_merge_patch_is_json_too(visitor: Visitor) -> None:
    answer = await visitor(
        "PATCH",
        SCHEDULE,
        content=b'{"notify": true}',
        headers={"content-type": "application/merge-patch+json; charset=utf-8"},
    )

    assert answer.status_code == 200


async def test_the_slower_of_two_editors_is_told_so(visitor: Visitor) -> None:
    await visitor.patch(notify=True)

    first = await visitor.patch(1, enabled=True)
    second = await visitor.patch(1, notify=False)
    anyway = await visitor("PATCH", SCHEDULE, json={"notify": False}, headers={"if-match": "*"})

    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert "revision 2" in problem(second, 412)["detail"]
    assert anyway.json()["notify"] is False
    assert anyway.json()["enabled"] is True


@pytest.mark.parametrize("tag", ['W/"1"', "1", '"x"', '"1", "2"', '""'])
async def test_an_etag_that_never_was_matches_nothing(visitor: Visitor, tag: str) -> None:
    await visitor.patch(notify=True)

    answer = await visitor("PATCH", SCHEDULE, json={"enabled": True}, headers={"if-match": tag})

    problem(answer, 412)


async def test_of_two_who_make_the_schedule_at_once_one_is_told_to_read_again(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    answers = await asyncio.gather(visitor.patch(0, notify=True), visitor.patch(0, enabled=True))

    assert sorted(answer.status_code for answer in answers) == [200, 412]
    assert await edits(pool, org) == ["created"]


async def test_two_who_make_it_at_once_without_looking_lose_nothing(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    answers = await asyncio.gather(visitor.patch(notify=True), visitor.patch(enabled=True))

    assert [answer.status_code for answer in answers] == [200, 200]
    said = await visitor.schedule()
    assert (said["notify"], said["enabled"]) == (True, True)
    assert await edits(pool, org) == ["created", "edited"]


async def test_each_edit_says_who_and_from_what_to_what(visitor: Visitor) -> None:
    await visitor.patch(cron_expression="0 7 * * *", preset_id=ODDS)
    await visitor.patch(timezone="Africa/Lagos")

    answer = await visitor("GET", f"{SCHEDULE}/edits")

    last, first = answer.json()["edits"]
    assert (first["action"], first["before"]) == ("created", None)
    assert first["after"]["preset_id"] == ODDS
    assert (last["action"], last["by"]) == ("edited", "Acme/admin")
    assert (last["before"]["timezone"], last["after"]["timezone"]) == ("UTC", "Africa/Lagos")
    assert last["at"] == "2026-09-05T12:00:00Z"


async def test_a_cron_edited_a_second_before_its_instant_fires_by_the_new_rule_only(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    await visitor.patch(cron_expression="0 13 * * *", enabled=True, preset_id=ODDS)
    clock.now = NOON + timedelta(minutes=59, seconds=59)

    await visitor.patch(cron_expression="30 13 * * *")
    clock.now = NOON + timedelta(hours=1)
    at_the_old = await decide.decide_schedule(pool, schedule_key(org.id), clock())
    clock.now = NOON + timedelta(hours=1, minutes=30)
    at_the_new = await decide.decide_schedule(pool, schedule_key(org.id), clock())

    assert (len(at_the_old), len(at_the_new)) == (0, 1)
    assert await ticks(pool, org) == {"05. 13:00": "superseded", "05. 13:30": "ran"}
    (account,) = await proof.verify(pool, clock())
    assert account.consistent


async def test_an_instant_that_is_due_when_the_edit_comes_still_runs(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    await visitor.patch(cron_expression="0 13 * * *", enabled=True, preset_id=ODDS)
    clock.now = NOON + timedelta(hours=1, seconds=2)

    answer = await visitor.patch(cron_expression="30 13 * * *")

    assert answer.json()["last_status"] == "queued"
    assert answer.json()["next_run_at"] == "2026-09-05T13:30:00Z"
    assert await ticks(pool, org) == {"05. 13:00": "ran", "06. 13:00": "superseded"}
    runs = (await visitor("GET", "/collection/runs")).json()["runs"]
    assert [run["scheduled_for"] for run in runs] == ["2026-09-05T13:00:00Z"]


async def test_a_schedule_that_is_off_is_due_never_and_its_instants_are_recorded(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    answer = await visitor.patch(cron_expression="0 13 * * *")
    clock.now = NOON + timedelta(hours=1)

    queued = await decide.decide_schedule(pool, schedule_key(org.id), clock())

    assert answer.json()["next_run_at"] is None
    assert queued == []
    assert await ticks(pool, org) == {"05. 13:00": "disabled"}


async def test_a_retired_schedule_supersedes_what_it_announced_and_reads_as_none(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    await visitor.patch(cron_expression="0 13 * * *", enabled=True, preset_id=ODDS)

    answer = await visitor("DELETE", SCHEDULE)
    clock.now = NOON + timedelta(hours=2)
    queued = await decide.decide_schedule(pool, schedule_key(org.id), clock())

    assert (answer.status_code, answer.content) == (204, b"")
    assert queued == []
    assert await ticks(pool, org) == {"05. 13:00": "superseded"}
    assert await visitor.schedule() == DEFAULTS
    assert (await visitor("GET", SCHEDULE)).headers["etag"] == '"2"'
    assert (await proof.verify(pool, clock()))[0].consistent
    problem(await visitor("DELETE", SCHEDULE), 404)


@pytest.mark.parametrize("later", [timedelta(minutes=10), timedelta(hours=3)])
async def test_a_change_revives_a_retired_schedule_from_the_defaults(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock, later: timedelta
) -> None:
    before = await visitor.patch(cron_expression="0 * * * *", enabled=True, preset_id=ODDS)
    await visitor("DELETE", SCHEDULE)
    clock.now += later

    answer = await visitor.patch(cron_expression="0 * * * *", enabled=True)
    clock.now += timedelta(hours=2)
    queued = await decide.decide_schedule(pool, schedule_key(org.id), clock())

    assert answer.json()["id"] == before.json()["id"]
    assert answer.json()["preset_id"] is None
    assert len(queued) == 1
    assert await edits(pool, org) == ["created", "retired", "revived"]
    assert (await proof.verify(pool, clock()))[0].consistent


async def test_a_pause_is_noted_and_its_instants_are_recorded_as_paused(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    await visitor.patch(cron_expression="0 * * * *", enabled=True, preset_id=ODDS)

    paused = await visitor("POST", f"{SCHEDULE}/pause", json={"note": "moving house"})
    resting = await visitor.schedule()
    clock.now = NOON + timedelta(hours=1, minutes=1)
    resumed = await visitor("POST", f"{SCHEDULE}/resume", json={"note": "we are in"})

    assert paused.json() == {
        "paused": True,
        "paused_at": "2026-09-05T12:00:00Z",
        "paused_by": "Acme/admin",
        "note": "moving house",
    }
    assert (resting["enabled"], resting["next_run_at"]) == (True, None)
    assert resumed.json()["paused"] is False
    assert await ticks(pool, org) == {"05. 13:00": "paused"}
    assert await edits(pool, org) == ["created", "paused", "resumed"]
    assert (await visitor.schedule())["next_run_at"] == "2026-09-05T14:00:00Z"


async def test_a_pause_wants_a_note_and_a_resume_may_do_without(visitor: Visitor) -> None:
    await visitor.patch(enabled=True)

    assert fields(await visitor("POST", f"{SCHEDULE}/pause", json={})) == ["note"]
    assert fields(await visitor("POST", f"{SCHEDULE}/pause", json={"note": " "})) == ["note"]
    assert (await visitor("POST", f"{SCHEDULE}/resume")).status_code == 200


async def test_nothing_can_be_paused_where_nothing_is(visitor: Visitor) -> None:
    problem(await visitor("POST", f"{SCHEDULE}/pause", json={"note": "x"}), 404)
    problem(await visitor("POST", f"{SCHEDULE}/resume"), 404)

    assert (await visitor("GET", f"{SCHEDULE}/pause")).json()["paused"] is False


async def test_the_last_run_is_told_with_the_schedule(
    visitor: Visitor, pool: Pool, org: Org, clock: SettableClock
) -> None:
    await visitor.patch(notify=True)
    await had_run(pool, org, clock() - timedelta(hours=2), "failure")
    await had_run(pool, org, clock() - timedelta(hours=1), "success")

    said = await visitor.schedule()

    assert (said["last_run_at"], said["last_status"]) == ("2026-09-05T11:00:00Z", "success")


async def test_a_preset_over_the_organisations_limit_cannot_be_chosen(
    visitor: Visitor, pool: Pool
) -> None:
    await pool.execute("UPDATE organizations SET limits = '{\"max_sources\": 2}'")

    answer = await visitor.patch(preset_id=ODDS)

    assert fields(answer) == ["preset_id"]
    assert "max_sources = 2" in answer.json()["detail"]


async def test_policies_are_chosen_read_kept_and_given_back(visitor: Visitor, pool: Pool) -> None:
    chosen: dict[str, Any] = {
        "overlap": "queue_one",
        "misfire_grace_seconds": 90.0,
        "timeout_seconds": 60.0,
        "max_attempts": 2,
        "exclude": ["sun", "2026-12-25"],
        "start": "2026-01-01",
        "end": "2027-01-01",
    }
    first = await visitor.patch(timezone="Africa/Lagos", **chosen)
    kept = await visitor.patch(enabled=True)
    stored = await pool.fetchval("SELECT policies FROM schedules WHERE org_id IS NOT NULL")
    back = await visitor.patch(overlap=None, exclude=None, start=None, end=None)

    assert chosen.items() <= first.json().items()
    assert chosen.items() <= kept.json().items()
    assert (stored["overlap"], stored["timeout_seconds"], stored["max_attempts"]) == (
        "queue_one",
        60,
        2,
    )
    assert stored["exclude"]["rules"] == ["sun", "2026-12-25"]
    assert stored["exclude"]["timezone"] == "Africa/Lagos"
    assert (back.json()["overlap"], back.json()["exclude"]) == (None, None)
    policies = await pool.fetchval("SELECT policies FROM schedules WHERE org_id IS NOT NULL")
    assert policies["overlap"] == "skip"
    assert "exclude" not in policies


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"coalesce": "all"}, "coalesce", "overlap=skip would skip"),
        ({"exclude": ["christmas"]}, "exclude", "it takes a date"),
        ({"exclude": ["holidays.ics"]}, "exclude", "cannot be read here"),
        ({"exclude": ["mon-sun"]}, "exclude", "every hour of the week"),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "end", "is before start"),
        ({"timeout_seconds": 604800.0}, "timeout_seconds", "is more than the limit"),
        (
            {"jitter_seconds": 600.0, "cron_expression": "*/5 * * * *"},
            "jitter_seconds",
            "before the next one",
        ),
    ],
)
async def test_policies_that_contradict_each_other_are_refused_with_the_reason(
    visitor: Visitor, change: dict[str, Any], field: str, reason: str
) -> None:
    refused = await visitor.patch(**change)

    assert fields(refused) == [field]
    assert reason in refused.text


async def test_the_next_run_is_no_excluded_tick(visitor: Visitor) -> None:
    answer = await visitor.patch(
        cron_expression="0 6 * * *", enabled=True, exclude=["2026-09-05/2026-09-09"]
    )

    assert answer.json()["next_run_at"].startswith("2026-09-10T06:00")


@pytest.mark.parametrize("start", ["9940-01-01", "9999-12-30"])
async def test_a_schedule_that_begins_in_thousands_of_years_can_be_read(
    visitor: Visitor, start: str
) -> None:
    answer = await visitor.patch(cron_expression="0 6 * * *", enabled=True, start=start)

    assert answer.status_code == 200, answer.text
    assert await visitor.schedule() == answer.json()


async def test_a_query_of_thousands_of_parameters_is_refused_in_little_time(
    visitor: Visitor,
) -> None:
    began = time.thread_time()

    answer = await visitor("GET", "/collection/items?" + "&".join(f"{n:x}=" for n in range(11_000)))

    assert answer.status_code == 422
    assert "more than 100 parameters" in answer.text
    assert time.thread_time() - began < 0.5, "seconds of this thread's processor"


@pytest.mark.parametrize(
    ("expression", "status"),
    [
        ("* * * * *", 200),
        ("* * * * * *", 422),
        ("*/30 * * * * *", 422),
        ("* 0 6 * * SUN", 200),
        ("* 0-30 6 * * SUN", 422),
        ("* * * 1 1 *", 422),
    ],
)
async def test_a_schedule_that_is_due_too_often_is_refused(
    visitor: Visitor, expression: str, status: int
) -> None:
    answer = await visitor.patch(cron_expression=expression)

    assert answer.status_code == status, answer.text
    assert status == 200 or "1,440" in answer.text


async def test_an_organisation_that_sends_too_many_changes_is_told_to_wait(
    visitor: Visitor, redis: ArqRedis, org: Org
) -> None:
    await redis.set(f"rollcall:api:changed:{org.id}", 240, ex=30)

    answer = await visitor.patch(notify=True)

    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 30
    assert (await visitor("GET", "/collection/schedule")).status_code == 200


async def test_changes_are_counted_for_a_day_too(redis: ArqRedis, org: Org, other: Org) -> None:
    throttle = ChangeThrottle(redis, per_minute=9, per_day=2)

    waits = [await throttle.count(org.id) for _ in range(3)]

    assert waits[:2] == [0, 0]
    assert 86_000 < waits[2] <= 86_400
    assert await throttle.count(other.id) == 0
