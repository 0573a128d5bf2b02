"""Polls for news and stories against the pretend AskNews: what they store, count and survive."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.core.enums import HealthReason, RunStatus
from app.health import keys
from app.health.judge import judge
from app.ledger import decide, edit
from app.store.db import Pool
from app.store.reports import diagnostics
from app.store.runs import source_usage
from scripts.standin.asknews import Access
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.published import publish_all_jobs
from tests.wait import until
from tests.worker_harness import run_row, source_rows
from workers import news, registry, stories
from workers.job import Job

THREE = ("OpenAI", "AMD", "Intel")
TEN = tuple(f"entity-{number}" for number in range(10))
KEY: dict[str, Any] = {"asknews_api_key": SecretStr("standin-key")}
CLIENT: dict[str, Any] = {
    "asknews_client_id": "standin-client",
    "asknews_client_secret": SecretStr("standin-secret"),
}
WRONG: dict[str, Any] = {"asknews_api_key": SecretStr("wr0ng")}
SEARCH = "/asknews/v1/news/search"
STORIES = "/asknews/v1/stories"
TABLES = (
    "articles",
    "article_entities",
    "stories",
    "story_entities",
    "story_updates",
    "story_sentiment",
)


class Newsroom:
    """Opens worker contexts that poll for news, with settings of the test's own."""

    def __init__(self, dsn: str, redis: ArqRedis, redis_url: str) -> None:
        self._dsn, self._redis, self._redis_url = dsn, redis, redis_url

    @asynccontextmanager
    async def opened(self, web: Standin, **settings: Any) -> AsyncGenerator[WorkerContext]:
        config = config_for(
            self._dsn, self._redis_url, web, **{"tracked_entities": THREE, **KEY, **settings}
        )
        async with worker_harness.opened(config, self._redis) as context:
            yield context


@pytest.fixture
def newsroom(dsn: str, redis: ArqRedis, redis_url: str) -> Newsroom:
    return Newsroom(dsn, redis, redis_url)


@pytest.fixture
async def context(newsroom: Newsroom, standin: Standin) -> AsyncGenerator[WorkerContext]:
    """A worker context with a key that tracks three entities."""
    async with newsroom.opened(standin) as opened:
        yield opened


@pytest.fixture
def free() -> Iterator[Standin]:
    """A pretend AskNews whose account is on the free plan."""
    with Standin.start(events=20, access=Access(plan="free")) as web:
        yield web


async def polled(
    context: WorkerContext, job: Job = news.poll_news, run_id: UUID | None = None, **params: Any
) -> dict[str, Any]:
    """The run of a poll, as it is written down."""
    done = await worker_harness.perform(context, run_id, job=job, params=params)
    return await run_row(context.pool, done)


async def kept(pool: Pool) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables of news."""
    return {
        table: sorted((tuple(row) for row in await pool.fetch(f"SELECT * FROM {table}")), key=repr)  # noqa: S608 - our own words
        for table in TABLES
    }


async def count(pool: Pool, table: str) -> int:
    number: int = await pool.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own words
    return number


async def stored_are(pool: Pool, table: str, rows: int) -> bool:
    return await count(pool, table) == rows


def asked(web: Standin) -> int:
    requests: int = web.stats()["sites"]["asknews"]["requests"]
    return requests


async def test_a_poll_stores_each_article_once_and_links_it_to_every_entity(
    context: WorkerContext,
) -> None:
    row = await polled(context)

    stats = row["stats"]
    assert (row["status"], row["error_type"]) == ("success", None)
    assert (stats["entities_processed"], stats["entities_failed"]) == (3, 0)
    assert stats["articles_fetched"] == await count(context.pool, "article_entities") == 90
    # Three of thirty are about everything, and found under each of the three.
    assert stats["articles_stored"] == await count(context.pool, "articles") == 84
    assert stats["requests"] == 4


async def test_a_poll_stores_stories_with_their_updates_and_moods(context: WorkerContext) -> None:
    row = await polled(context, stories.poll_stories)

    stats = row["stats"]
    uneven = await context.pool.fetchval(
        "SELECT count(*) FROM stories s WHERE (SELECT count(*) FROM story_updates"
        " WHERE story_id = s.id) > (SELECT count(*) FROM story_sentiment WHERE story_id = s.id)"
    )
    (story, *_) = await context.pool.fetch("SELECT * FROM stories ORDER BY id")
    assert row["status"] == "success"
    assert stats["stories_fetched"] == stats["stories_stored"] == 36
    assert stats["sentiment_points_stored"] == await count(context.pool, "story_sentiment") > 36
    assert await count(context.pool, "story_updates") > 36
    assert uneven > 0, "some moods of the pretend web have no instant"
    assert (story["languages"], story["countries"]) == ({"en": 6}, {"US": 4, "GB": 2})


@pytest.mark.parametrize("job", [news.poll_news, stories.poll_stories], ids=["news", "stories"])
async def test_a_second_poll_over_the_same_pages_changes_nothing(
    context: WorkerContext, job: Job
) -> None:
    await polled(context, job)
    before = await kept(context.pool)

    row = await polled(context, job)

    stats = row["stats"]
    assert await kept(context.pool) == before
    stored = stats.get("articles_stored", stats.get("stories_stored"))
    assert stored == stats["changed"] == stats.get("sentiment_points_stored", 0) == 0
    assert job.group is not None
    assert stats["unchanged"] == stats[job.group.records_stat] > 0


async def test_a_poll_asks_only_for_what_came_since_the_last_one(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, asknews_overlap_minutes=5) as context:
        first = await polled(context)
        standin.advance(2)

        second = await polled(context)

        cursors = await context.pool.fetch("SELECT entity, cursor FROM news_cursors")
    assert first["stats"]["articles_fetched"] == 90
    assert second["stats"]["articles_fetched"] < 30
    assert second["stats"]["articles_stored"] == 1 + 3, "one of them is about everything"
    assert {row["entity"] for row in cursors} == set(THREE)
    assert min(row["cursor"] for row in cursors) > second["started_at"]


async def test_what_moved_of_a_story_is_written_and_nothing_else(
    context: WorkerContext, standin: Standin
) -> None:
    await polled(context, stories.poll_stories)
    points = await count(context.pool, "story_sentiment")
    standin.advance(5)

    row = await polled(context, stories.poll_stories)

    stats = row["stats"]
    assert 0 < stats["changed"] < stats["stories_fetched"]
    assert stats["stories_stored"] == 0
    assert await count(context.pool, "story_sentiment") == points + stats["sentiment_points_stored"]


async def test_three_of_ten_entities_failing_is_a_partial_failure_with_seven_entities_news(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, tracked_entities=TEN) as context:
        declared = next(
            d for d in registry.declared_schedules(context.config) if d.job == "poll_news"
        )
        await edit.register(context.pool, [declared], context.clock())
        due = declared.schedule.next(context.clock())
        (good,) = await decide.decide_schedule(context.pool, declared.key, due)
        await polled(context, run_id=good.run_id)
        before = (await keys.read_jobs(context.redis))[declared.key]
        await context.pool.execute("TRUNCATE articles, news_cursors, page_validators CASCADE")
        for number in (1, 4, 8):
            standin.fault(SEARCH, "status", status=500, match=f"entity-{number}")
        (queued,) = await decide.decide_schedule(
            context.pool, declared.key, declared.schedule.next(due)
        )

        row = await polled(context, run_id=queued.run_id)

        facts = (await keys.read_jobs(context.redis))[declared.key]
        source = (await source_rows(context.pool, row["execution_id"]))["asknews_news"]
        linked = await context.pool.fetch("SELECT DISTINCT entity FROM article_entities")
    failed = {"entity-1", "entity-4", "entity-8"}
    assert (row["status"], row["error_type"]) == ("partial_failure", "http_status")
    assert (row["stats"]["entities_processed"], row["stats"]["entities_failed"]) == (7, 3)
    assert {each["entity"] for each in linked} == set(TEN) - failed
    assert source["errors"].keys() == failed
    assert facts.last_status is RunStatus.PARTIAL_FAILURE
    assert facts.last_success == before.last_success is not None


async def test_some_entities_failing_is_a_partial_failure_though_the_others_have_nothing_new(
    context: WorkerContext, standin: Standin
) -> None:
    standin.fault(SEARCH, "status", status=500, match="AMD")

    row = await polled(context, entities=["AMD", "  quiet  "])
    again = await polled(context, entities=["AMD"])

    assert row["status"] == "partial_failure"
    assert again["status"] == "failure"


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"kind": "status", "status": 500}, "http_status", "HTTP 500"),
        ({"kind": "status", "status": 403, "code": 403_011}, "auth", "403011"),
        ({"kind": "non_json", "status": 502}, "http_status", "upstream connect error"),
        ({"kind": "html", "status": 200}, "blocked", "HTML"),
        ({"kind": "status", "status": 429, "code": 429_001}, "rate_limited", "(429001, concurr"),
        (
            {"kind": "retry_after", "status": 429, "code": 429_000, "retry_after": "0"},
            "rate_limited",
            "(429000, rate)",
        ),
        ({"kind": "reset"}, "network", "connection"),
    ],
    ids=["500", "403", "non-json", "html", "429001", "429000", "reset"],
)
async def test_all_entities_failing_is_a_failure_that_says_why(
    context: WorkerContext, standin: Standin, fault: dict[str, Any], kind: str, said: str
) -> None:
    standin.fault(SEARCH, **fault)

    row = await polled(context, entities=["AMD"])

    assert (row["status"], row["error_type"]) == ("failure", kind)
    assert said in row["error_message"]
    assert row["stats"]["entities_failed"] == 1
    assert await count(context.pool, "news_cursors") == 0


@pytest.mark.parametrize("fault", ["status", "retry_after", "delay", "reset"])
async def test_a_fault_that_passes_is_asked_over(
    context: WorkerContext, standin: Standin, fault: str
) -> None:
    standin.fault(SEARCH, fault, times=2, seconds=0.2, retry_after="0")

    row = await polled(context)

    assert (row["status"], row["stats"]["articles_fetched"]) == ("success", 90)


@pytest.mark.parametrize("answer", ["status", "html", "empty"])
async def test_without_an_answer_about_limits_the_poll_goes_on_as_every_plan_allows(
    context: WorkerContext, standin: Standin, answer: str
) -> None:
    standin.fault("/asknews/v1/profiles", answer, status=None if answer == "html" else 403)

    row = await polled(context, entities=["AMD"])

    source = (await source_rows(context.pool, row["execution_id"]))["asknews_news"]
    assert row["status"] == "success"
    assert source["requests"] == 2


async def test_the_pace_that_the_account_allows_is_kept_and_never_refused(
    newsroom: Newsroom,
) -> None:
    with Standin.start(events=20, access=Access(rate=5, burst=1, concurrency=1)) as web:
        async with newsroom.opened(web, tracked_entities=TEN[:5]) as context:
            row = await polled(context)

        statuses = web.stats()["sites"]["asknews"]["statuses"]
    assert row["status"] == "success"
    assert statuses == {"200": 6}
    assert row["duration_seconds"] > 4 / 5


async def test_a_wrong_key_is_named_asked_with_once_and_never_told(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, **WRONG) as context:
        row = await polled(context)

        source = (await source_rows(context.pool, row["execution_id"]))["asknews_news"]
    assert (row["status"], row["error_type"]) == ("failure", "auth")
    assert "ASKNEWS_API_KEY is not accepted" in row["error_message"]
    assert row["stats"]["entities_failed"] == 3
    assert asked(standin) == 1
    assert "wr0ng" not in f"{row}{source}"


async def test_wrong_client_credentials_are_named_and_asked_with_once(
    newsroom: Newsroom, standin: Standin
) -> None:
    wrong = CLIENT | {"asknews_client_secret": SecretStr("wr0ng"), "asknews_api_key": None}

    async with newsroom.opened(standin, **wrong) as context:
        row = await polled(context)
        again = await polled(context, stories.poll_stories)

    assert [r["error_type"] for r in (row, again)] == ["auth", "auth"]
    assert "ASKNEWS_CLIENT_ID with ASKNEWS_CLIENT_SECRET is not accepted" in row["error_message"]
    assert asked(standin) == 1
    assert "wr0ng" not in f"{row}{again}"


async def test_client_credentials_are_changed_for_one_token_that_both_jobs_share(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, **CLIENT, asknews_api_key=None) as context:
        rows = await asyncio.gather(polled(context), polled(context, stories.poll_stories))

    requests = sum(row["stats"]["requests"] for row in rows)
    searches = 3 + 1  # and the limits
    pages = rows[1]["stats"]["pages"] + 1
    assert [row["status"] for row in rows] == ["success", "success"]
    assert requests == asked(standin) == searches + pages + 1


async def test_a_token_that_ends_in_the_middle_of_a_run_is_renewed_once(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, **CLIENT, asknews_api_key=None) as context:
        await polled(context)
        before = asked(standin)
        standin.revoke_tokens()

        row = await polled(context)

    assert row["status"] == "success"
    assert asked(standin) - before == 4 + 1 + 1, "the refused request and the token besides"


async def test_without_credentials_both_jobs_are_disabled_and_health_says_so(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, asknews_api_key=None) as context:
        declared = [
            d for d in registry.declared_schedules(context.config) if d.job.startswith("poll_")
        ]
        await edit.register(context.pool, declared, context.clock())
        due = max(d.schedule.next(context.clock()) for d in declared)
        queued = [await decide.decide_schedule(context.pool, d.key, due) for d in declared]
        await publish_all_jobs(context.pool, context.redis)
        facts = await keys.read_jobs(context.redis)

        by_hand = await polled(context)

        reasons = await context.pool.fetch("SELECT DISTINCT outcome, reason FROM ticks")
    assert [d.enabled for d in declared] == [False, False]
    assert queued == [[], []]
    assert {key: judge(each, due).reason for key, each in facts.items()} == {
        "poll_news": HealthReason.DISABLED,
        "poll_stories": HealthReason.DISABLED,
    }
    assert [tuple(row) for row in reasons] == [("skipped", "disabled")]
    assert (by_hand["status"], by_hand["error_type"]) == ("failure", "auth")
    assert "ASKNEWS_API_KEY" in by_hand["error_message"]
    assert standin.stats()["requests"] == 0


async def test_the_smaller_page_of_a_plan_is_found_and_kept_to(newsroom: Newsroom) -> None:
    with Standin.start(events=20, access=Access(concurrency=1)) as web:
        web.fault(SEARCH, "status", status=422, code=422_000, match="n_articles=100")
        async with newsroom.opened(web) as context:
            row = await polled(context)

    assert (row["status"], row["stats"]["articles_fetched"]) == ("success", 90)
    assert row["stats"]["pages"] == 9
    assert row["stats"]["requests"] == 1 + 1 + 9, "the limits, and one page that was too large"


async def test_a_plan_that_cuts_pages_short_in_silence_loses_nothing(
    newsroom: Newsroom, free: Standin
) -> None:
    async with newsroom.opened(free) as context:
        row = await polled(context)

    assert (row["stats"]["articles_fetched"], row["stats"]["pages"]) == (90, 9)


async def test_more_than_the_most_pages_is_told_and_the_newest_are_kept(
    newsroom: Newsroom, free: Standin
) -> None:
    async with newsroom.opened(free, asknews_max_pages=2) as context:
        row = await polled(context, entities=["AMD"])

        cursors = await count(context.pool, "news_cursors")
    assert (row["status"], row["error_type"]) == ("partial_failure", "incomplete")
    assert "more than 2 pages" in row["error_message"]
    assert row["stats"]["articles_stored"] == 20
    assert cursors == 0, "what was not read is requested by the next poll"


async def test_a_poll_cut_off_between_two_pages_neither_loses_nor_doubles(
    newsroom: Newsroom, free: Standin
) -> None:
    async with newsroom.opened(free) as context:
        free.fault(SEARCH, "delay", match="offset=20", seconds=60, times=1)
        first = asyncio.create_task(worker_harness.perform(context, job=news.poll_news))
        await until(lambda: stored_are(context.pool, "article_entities", 80), what="all but a page")
        cursors = await count(context.pool, "news_cursors")
        first.cancel()
        run_id = await first

        row = await polled(context, run_id=run_id)

        stored, links = [await count(context.pool, t) for t in ("articles", "article_entities")]
    assert cursors == 2, "what was not read to the end is read again"
    assert (row["status"], row["attempt"]) == ("success", 2)
    assert (stored, links) == (84, 90)
    assert (row["stats"]["articles_stored"], row["stats"]["articles_fetched"]) == (84, 90)


async def test_stories_cut_off_between_two_pages_count_each_point_once(
    newsroom: Newsroom, free: Standin
) -> None:
    async with newsroom.opened(free, asknews_page_size=10) as context:
        free.fault(STORIES, "delay", match="offset=10", seconds=60, times=1)
        first = asyncio.create_task(worker_harness.perform(context, job=stories.poll_stories))
        await until(lambda: stored_are(context.pool, "story_entities", 34), what="all but a page")
        first.cancel()
        run_id = await first

        row = await polled(context, stories.poll_stories, run_id=run_id)

        points = await count(context.pool, "story_sentiment")
    assert (row["status"], row["stats"]["stories_stored"]) == ("success", 36)
    assert row["stats"]["sentiment_points_stored"] == points


async def test_a_monthly_budget_is_never_exceeded_and_the_run_says_so(
    newsroom: Newsroom, standin: Standin
) -> None:
    budgets = {"asknews_news": 2, "asknews_stories": 25}
    async with newsroom.opened(standin, monthly_requests=budgets) as context:
        first, second = await polled(context), await polled(context)
        result = await polled(context, stories.poll_stories)
        used = await source_usage.used(context.pool, context.clock())

    assert used == {"asknews_news": 2, "asknews_stories": 20}
    assert (first["status"], second["status"]) == ("partial_failure", "failure")
    assert result["status"] != "success"
    assert "the budget of asknews_news for " in second["error_message"]
    assert "MONTHLY_REQUESTS" in second["error_message"]


async def outage(context: WorkerContext, days: float) -> datetime:
    """Let AMD have been read for the last time so many days ago."""
    read = context.clock() - timedelta(days=days)
    statement = "INSERT INTO news_cursors (source, entity, cursor, run_id) VALUES ($1, $2, $3, $4)"
    await context.pool.execute(statement, "asknews_news", "AMD", read, UUID(int=1))
    return read


async def test_a_stretch_that_no_poll_requests_is_named_by_the_run_and_by_doctor(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin) as context:
        read = await outage(context, 5)
        row = await polled(context, entities=["AMD"])
        again = await polled(context, entities=["AMD"])
        findings = await diagnostics.recent_gaps(context.pool)

    named = f"from {read:%Y-%m-%d %H:%M} to "
    assert (row["status"], row["error_type"], again["status"]) == (
        "partial_failure",
        "gap",
        "success",
    )
    assert named in row["error_message"]
    assert [named in finding for finding in findings] == [True]
    assert findings[0].startswith("asknews_news, AMD: ")


async def test_a_stretch_that_was_not_requested_is_named_also_by_the_attempt_that_goes_on(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin) as context:
        await outage(context, 5)
        standin.fault(SEARCH, "delay", match="query=Intel", seconds=60, times=1)
        poll = {"entities": ["AMD", "Intel"]}
        first = asyncio.create_task(
            worker_harness.perform(context, job=news.poll_news, params=poll)
        )
        done = "SELECT 'AMD' = ANY (done) FROM run_sources"
        await until(lambda: context.pool.fetchval(done), what="AMD is done")
        first.cancel()
        row = await polled(context, run_id=await first)

    assert (row["attempt"], row["status"], row["error_type"]) == (2, "partial_failure", "gap")


async def test_a_stretch_is_requested_from_the_archive_where_that_is_allowed(
    newsroom: Newsroom, standin: Standin
) -> None:
    async with newsroom.opened(standin, asknews_historical=True) as context:
        read = await outage(context, 5)
        row = await polled(context, entities=["AMD"])
        cursor = await context.pool.fetchval("SELECT cursor FROM news_cursors")
        findings = await diagnostics.recent_gaps(context.pool)
        urls = [row[0] for row in await context.pool.fetch("SELECT url FROM raw_pages")]

    assert (row["status"], row["error_message"]) == ("success", None)
    assert cursor > read + timedelta(days=4)
    assert findings == []
    assert any("historical=True" in url and "hours_back=121" in url for url in urls), urls
