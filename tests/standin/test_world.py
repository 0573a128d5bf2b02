"""The pretend world follows from its seed."""

from datetime import UTC, datetime
from statistics import mean

import pytest

from scripts.standin.world import SITES, Board, World

START = datetime(2026, 9, 1, 12, tzinfo=UTC)


def prices(board: Board) -> list[int]:
    lines = [odds for line in board.lines for odds in (line.over, line.under)]
    return [*board.result, *board.both_score, *board.double_chance, *lines]


def test_the_same_seed_and_version_give_the_same_world() -> None:
    one, two = World(7, 100, START), World(7, 100, START)

    one.advance()
    two.advance()

    assert one.listed == two.listed
    assert one.view == two.view


def test_another_seed_gives_another_world() -> None:
    assert World(1, 100, START).matches != World(2, 100, START).matches


def test_every_site_lists_as_many_events_as_asked_for_and_most_are_shared() -> None:
    world = World(1, 700, START)

    ids = {site: {match.sportradar_id for match in world.listed[site]} for site in SITES}

    assert {site: len(found) for site, found in ids.items()} == dict.fromkeys(SITES, 700)
    assert len(ids["sportybet"] & ids["betpawa"] & ids["bet9ja"]) == 630


@pytest.mark.parametrize("site", SITES)
def test_an_event_has_twenty_to_thirty_prices_on_average(site: str) -> None:
    world = World(1, 700, START)

    counts = [len(prices(world.board(site, match, 0))) for match in world.listed[site]]

    assert 20 <= mean(counts) <= 29


@pytest.mark.parametrize("site", SITES)
def test_a_move_changes_every_price_of_its_match_and_no_price_is_too_low(site: str) -> None:
    world = World(1, 50, START)

    for match in world.listed[site]:
        for moves in range(25):
            before = prices(world.board(site, match, moves))
            after = prices(world.board(site, match, moves + 1))
            assert all(old != new for old, new in zip(before, after, strict=True))
            assert min(before) > 101


@pytest.mark.parametrize(("share", "moved"), [(0.0, 0), (0.01, 11), (0.5, 550), (1.0, 1100)])
def test_an_advance_moves_the_share_of_the_matches_asked_for(share: float, moved: int) -> None:
    world = World(1, 1000, START)

    version = world.advance(share)

    assert version == 1
    assert sum(world.view.moves) == moved


def test_about_thirty_competitions_have_matches() -> None:
    world = World(1, 700, START)

    assert len({match.competition for match in world.listed["betpawa"]}) == 30
