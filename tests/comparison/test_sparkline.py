"""The path of a price as blocks: as high as the price, blank where there was none."""

from datetime import timedelta
from decimal import Decimal

from app.odds.sparkline import Point, render
from tests.clock import NOON

LATER = NOON + timedelta(minutes=4)


def path(*prices: str | None) -> list[Point]:
    return [
        (NOON + timedelta(minutes=n), None if price is None else Decimal(price))
        for n, price in enumerate(prices)
    ]


def test_the_lowest_and_the_highest_price_are_the_ends_of_the_scale() -> None:
    assert render(path("2", "2", "3", "2.5", "2"), NOON, LATER, 4) == "▁█▅▁"


def test_a_price_that_never_moved_is_a_line_in_the_middle() -> None:
    assert render(path("2"), NOON, LATER, 4) == "▅▅▅▅"


def test_a_price_that_was_withdrawn_leaves_a_gap() -> None:
    assert render(path("2", None, None, "2"), NOON, LATER, 4) == "  ▅▅"
