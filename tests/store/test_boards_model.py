"""Any sequence of boards leaves what a naive model says, and its moves tell every board between."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.enums import Market, MarketOutcome
from app.core.records import OddsEvent, OddsPrice
from app.embedded import Servers
from app.store.content import listings, odds
from app.store.content.listings import Listing
from app.store.db import Pool, open_pool
from tests import servers as real
from tests.clock import NOON
from tests.store.board_model import Key, Model, Quote

RUN = UUID(int=7)
PLATFORM = "sportybet"
PICKS: tuple[tuple[Market, MarketOutcome, Decimal | None], ...] = (
    (Market.MATCH_RESULT, MarketOutcome.HOME, None),
    (Market.MATCH_RESULT, MarketOutcome.DRAW, None),
    (Market.OVER_UNDER, MarketOutcome.OVER, Decimal("2.5")),
    (Market.OVER_UNDER, MarketOutcome.OVER, Decimal(3)),
    (Market.OVER_UNDER, MarketOutcome.OVER, None),
)


class Killed(Exception):
    """The attempt died before its page was committed."""


@dataclass(frozen=True)
class Edit:
    """One thing that becomes of a board before it is listed again."""

    kind: str
    event: int
    pick: int
    price: Decimal


@dataclass(frozen=True)
class Round:
    """One way through one partition. `page`: events on a page. `fails_after`: pages, if it fails.

    `kills`: pages that are written and then lost, before they are written again.
    """

    partition: str
    edits: Sequence[Edit]
    page: int
    fails_after: int | None
    kills: frozenset[int]


HOURS = (-1, 5, 50)
KINDS = ("price", "suspend", "withdraw", "leave", "come", "rename", "kickoff", "unread", "twice")

edits = st.builds(
    Edit,
    st.sampled_from([*KINDS, "leave", "price", "leave"]),
    st.integers(1, 4),
    st.integers(0, len(PICKS) - 1),
    st.sampled_from([Decimal("1.5"), Decimal("1.50"), Decimal("2.4"), Decimal(3)]),
)
rounds = st.builds(
    Round,
    partition=st.sampled_from(["a", "a", "a", "b"]),
    edits=st.lists(edits, min_size=1, max_size=3),
    page=st.integers(1, 3),
    fails_after=st.sampled_from([None, None, None, 0, 1, 2]),
    kills=st.frozensets(st.integers(0, 3), max_size=2),
)


def _event(number: int) -> OddsEvent:
    prices = tuple(OddsPrice(*pick, Decimal(2)) for pick in PICKS[:3])
    kickoff = NOON + timedelta(hours=HOURS[number % 3])
    return OddsEvent(PLATFORM, str(number), None, "", "", None, "Home", "Away", kickoff, prices)


def _opening() -> dict[str, list[OddsEvent]]:
    return {"a": [_event(1), _event(2), _event(4)], "b": [_event(3)]}


def _edited(board: list[OddsEvent], edit: Edit) -> list[OddsEvent]:
    key = str(edit.event)
    if edit.kind == "come":
        return (
            board
            if any(e.platform_event_id == key for e in board)
            else [*board, _event(edit.event)]
        )
    if edit.kind == "leave":
        return [e for e in board if e.platform_event_id != key]
    if edit.kind == "twice":
        return [*board, *(_changed(e, edit) for e in board if e.platform_event_id == key)]
    return [_changed(e, edit) if e.platform_event_id == key else e for e in board]


def _changed(event: OddsEvent, edit: Edit) -> OddsEvent:
    pick = PICKS[edit.pick]
    others = tuple(p for p in event.prices if (p.market, p.outcome, p.line) != pick)
    changes: dict[str, Any] = {
        "price": {"prices": (*others, OddsPrice(*pick, edit.price))},
        "twice": {"prices": (*others, OddsPrice(*pick, edit.price))},
        "suspend": {"prices": (*others, OddsPrice(*pick, edit.price, active=False))},
        "withdraw": {"prices": others, "complete": True},
        "unread": {"prices": others, "complete": False},
        "rename": {"home": f"Home {edit.pick}"},
        "kickoff": {"kickoff": NOON + timedelta(hours=HOURS[edit.pick % 3])},
    }
    return replace(event, **changes[edit.kind])


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def model_pool(runner: asyncio.Runner, servers: Servers, template: str) -> Iterator[Pool]:
    """`pool`, on a loop that Hypothesis can call from outside of any."""
    name = f"boards_{uuid4().hex}"
    dsn = runner.run(real.create_database(servers, name, template=template))
    pool = runner.run(open_pool(dsn, size=2))
    yield pool
    pool.terminate()
    runner.run(real.drop_database(servers, name))


@pytest.mark.timeout(600)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sequence=st.lists(rounds, min_size=3, max_size=8))
def test_any_sequence_of_boards_leaves_what_the_model_says(
    runner: asyncio.Runner, model_pool: Pool, sequence: list[Round]
) -> None:
    model = Model()

    runner.run(_play(model_pool, model, sequence))

    assert runner.run(_current(model_pool)) == model.board()
    assert runner.run(_events(model_pool)) == {
        key: (kept.home, kept.kickoff, kept.absent, kept.withdrawn)
        for key, kept in model.events.items()
    }
    moves = runner.run(model_pool.fetch("SELECT * FROM odds_price_changes ORDER BY id"))
    ids = dict(runner.run(_ids(model_pool)))
    for at, board in model.after.items():
        assert _replayed(moves, ids, at) == board
    assert _no_move_says_what_was_so_already(moves)
    assert runner.run(_kickoffs(model_pool)) == model.moved


async def _play(pool: Pool, model: Model, sequence: list[Round]) -> None:
    await pool.execute("TRUNCATE odds_events, odds_boards, odds_price_changes CASCADE")
    world = _opening()
    for number, one in enumerate(sequence):
        for edit in one.edits:
            world[one.partition] = _edited(world[one.partition], edit)
        start = NOON + timedelta(minutes=10 * number)
        await _walk(pool, model, one, world[one.partition], start)


async def _walk(
    pool: Pool, model: Model, one: Round, board: list[OddsEvent], start: datetime
) -> None:
    pages = [board[at : at + one.page] for at in range(0, len(board), one.page)]
    at, seen = start, set[str]()
    for number, page in enumerate(pages[: one.fails_after]):
        at = start + timedelta(seconds=number)
        seen |= {event.platform_event_id for event in page}
        if number in one.kills:
            with suppress(Killed):
                await _page(pool, page, at, killed=True)
        await _page(pool, page, at)
        model.page(list(page), at)
    listing = Listing(PLATFORM, one.partition, seen, seen, at)
    if one.fails_after is not None and one.fails_after < len(pages):
        async with pool.acquire() as connection:
            await listings.record_partial_listing(connection, listing, RUN)
    elif seen:
        async with pool.acquire() as connection, connection.transaction():
            await listings.record_listing(connection, listing, RUN)
        model.listed(one.partition, seen, at)


async def _page(
    pool: Pool, page: Sequence[OddsEvent], at: datetime, *, killed: bool = False
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await odds.write(connection, page, at, RUN)
        if killed:
            raise Killed


async def _ids(pool: Pool) -> list[tuple[int, str]]:
    rows = await pool.fetch("SELECT id, platform_event_id FROM odds_events")
    return [(row[0], row[1]) for row in rows]


async def _current(pool: Pool) -> dict[Key, Quote]:
    ids = dict(await _ids(pool))
    return _board(await pool.fetch("SELECT * FROM odds_prices"), ids)


async def _events(pool: Pool) -> dict[str, tuple[Any, ...]]:
    rows = await pool.fetch("SELECT * FROM odds_events")
    return {
        row["platform_event_id"]: (
            row["home"],
            row["kickoff"],
            row["absent_since"] is not None,
            row["withdrawn_at"] is not None,
        )
        for row in rows
    }


async def _kickoffs(pool: Pool) -> dict[str, list[datetime]]:
    rows = await pool.fetch(
        "SELECT e.platform_event_id, c.after FROM odds_event_changes c"
        " JOIN odds_events e ON e.id = c.event_id WHERE what = 'kickoff' ORDER BY c.id"
    )
    found: dict[str, list[datetime]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(datetime.fromisoformat(row[1]))
    return found


def _board(rows: Sequence[Any], ids: dict[int, str]) -> dict[Key, Quote]:
    return {
        (ids[r["event_id"]], Market(r["market"]), r["line"], MarketOutcome(r["outcome"])): (
            r["price"],
            r["active"],
        )
        for r in rows
    }


def _replayed(moves: Sequence[Any], ids: dict[int, str], at: datetime) -> dict[Key, Quote]:
    return _board([move for move in moves if move["observed_at"] <= at], ids)


def _no_move_says_what_was_so_already(moves: Sequence[Any]) -> bool:
    last: dict[tuple[Any, ...], Quote] = {}
    for move in moves:
        key = (move["event_id"], move["market"], move["line"], move["outcome"])
        quote = (move["price"], move["active"])
        if last.get(key) == quote:
            return False
        last[key] = quote
    return True


def test_the_model_itself_withdraws_what_a_second_listing_lacks() -> None:
    model = Model()
    event = replace(_event(1), prices=(OddsPrice(*PICKS[0], Decimal(2)),))
    model.page([event, replace(event, platform_event_id="2")], NOON)
    model.listed("a", {"1", "2"}, NOON)

    model.listed("a", {"1"}, NOON)
    doubted = {key[0]: quote for key, quote in model.board().items()}
    model.listed("a", {"1"}, NOON)

    assert doubted == {"1": (Decimal(2), True), "2": (Decimal(2), True)}
    quotes = {key[0]: quote for key, quote in model.board().items()}
    assert quotes == {"1": (Decimal(2), True), "2": (None, False)}
