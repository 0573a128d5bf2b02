"""Two editors at one schedule, at once, looking or not: nothing is lost, or half saved."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.collection_keys import schedule_key
from app.core.enums import Scope
from app.ledger import decide, proof
from app.store.db import Pool
from tests.api.clients import NEWS, ODDS, SCHEDULE, Org, Visitor, found
from tests.clock import SettableClock

Changes = dict[str, Any]
FIELDS = ("preset_id", "cron_expression", "timezone", "enabled", "notify")
START: Changes = {
    "preset_id": None,
    "cron_expression": "0 6 * * *",
    "timezone": "UTC",
    "enabled": False,
    "notify": False,
}
BAD: tuple[tuple[Changes, int], ...] = (
    ({"cron_expression": "61 * * * *"}, 400),
    ({"timezone": "Mars/Base"}, 422),
    ({"enabled": None}, 422),
    ({"colour": "blue"}, 422),
    ({"preset_id": "00000000-0000-4000-8000-00000000dead"}, 422),
)


@dataclass(frozen=True, slots=True)
class Try:
    """What an editor sends, whether they say which revision they saw, and what is wrong with it."""

    changes: Changes
    looks: bool
    stale: bool
    fault: int | None


good = st.fixed_dictionaries(
    {},
    optional={
        "preset_id": st.sampled_from([None, ODDS, NEWS]),
        "cron_expression": st.sampled_from(["*/5 * * * *", "0 * * * *", "30 2 * * *"]),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "Africa/Lagos"]),
        "enabled": st.booleans(),
        "notify": st.booleans(),
    },
)
bad = st.tuples(good, st.sampled_from(BAD))


@st.composite
def tries(draw: st.DrawFn) -> Try:
    """One PATCH, seldom a wrong one."""
    looks, stale = draw(st.booleans()), draw(st.integers(0, 9)) == 0
    if draw(st.integers(0, 4)) == 0:
        changes, (wrong, status) = draw(bad)
        return Try(changes | wrong, looks, stale, status)
    return Try(draw(good), looks, stale, None)


rounds = st.lists(st.tuples(tries(), tries(), st.integers(0, 4_000)), min_size=1, max_size=6)


@dataclass(slots=True)
class Desk:
    """An organisation, its editors and what they are known to have saved."""

    pool: Pool
    clock: SettableClock
    org: Org
    editor: Visitor
    state: Changes

    async def round(self, first: Try, second: Try, seconds: int) -> None:
        """Let time pass, then both send at once; holds what they were told against what stands."""
        self.clock.now += timedelta(seconds=seconds)
        await decide.decide_schedule(self.pool, schedule_key(self.org.id), self.clock())
        at = await self.revision()
        answers = await asyncio.gather(self.send(first, at), self.send(second, at))
        sent = list(zip((first, second), answers, strict=True))
        for one, answer in sent:
            self.judge(one, answer)
        saved = [one for one, answer in sent if answer.status_code == 200]
        await self.check_lost(at, saved)
        await self.check_state(saved)
        await self.check_history()

    async def send(self, one: Try, at: int) -> httpx.Response:
        seen = at - 1 if one.stale and at else at
        return await self.editor.patch(seen if one.looks else None, **one.changes)

    async def revision(self) -> int:
        answer = await self.editor("GET", SCHEDULE)
        return int(answer.headers["etag"].strip('"'))

    def judge(self, one: Try, answer: httpx.Response) -> None:
        """Who does not look is refused only for what is wrong with it."""
        allowed = {200 if one.fault is None else one.fault}
        if one.looks:
            allowed.add(412)
        assert answer.status_code in allowed, answer.text

    async def check_lost(self, at: int, saved: Sequence[Try]) -> None:
        """Of two who saw the same and changed it, the second is not let through."""
        both_looked = len(saved) == 2 and all(one.looks for one in saved)
        assert not both_looked or await self.revision() <= at + 1

    async def check_state(self, saved: Sequence[Try]) -> None:
        """What stands is what one order of the saved changes makes, whole."""
        said = await self.editor.schedule()
        stands = {name: said[name] for name in FIELDS}
        possible: list[Changes] = []
        for order in itertools.permutations(saved):
            state = dict(self.state)
            for one in order:
                state |= one.changes
            possible.append(state)
        assert stands in possible
        self.state = stands

    async def check_history(self) -> None:
        """Each edit begins where the one before ended, and the revision counts them."""
        rows = await self.pool.fetch(
            "SELECT before, after FROM schedule_edits WHERE org_id = $1 ORDER BY id", self.org.id
        )
        assert await self.revision() == len(rows)
        ends = [row["after"] for row in rows]
        assert [row["before"] for row in rows] == [None, *ends][: len(rows)]
        assert not rows or ends[-1] == self.state


@pytest.mark.timeout(180)
async def test_two_editors_lose_nothing_and_save_nothing_by_halves(
    api: httpx.AsyncClient, pool: Pool, clock: SettableClock
) -> None:
    loop = asyncio.get_running_loop()
    numbers = itertools.count()

    async def play(drawn: Sequence[tuple[Try, Try, int]]) -> None:
        org = await found(pool, clock, f"Org {next(numbers)}")
        desk = Desk(pool, clock, org, Visitor(api, org.secrets[Scope.ADMIN]), dict(START))
        for first, second, seconds in drawn:
            await desk.round(first, second, seconds)
        unsound = [one for one in await proof.verify(pool, clock()) if not one.consistent]
        assert unsound == []

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(drawn=rounds)
    def explore(drawn: Sequence[tuple[Try, Try, int]]) -> None:
        clock.now = SettableClock().now
        asyncio.run_coroutine_threadsafe(play(drawn), loop).result(60)

    await asyncio.to_thread(explore)
