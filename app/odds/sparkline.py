"""Renders the course of a price as one line of block characters. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

BLOCKS = "▁▂▃▄▅▆▇█"
EMPTY = " "

Point = tuple[datetime, Decimal | None]


def render(path: Sequence[Point], since: datetime, until: datetime, width: int) -> str:
    """Return `width` characters, one for each equal part of the time from `since` to `until`.

    Each shows the price at the end of its part, or NOTHING if there is none. `path` is in order of
    time; a price of None means that there is none, as before the first point.
    """
    lowest, highest = price_range([path])
    span = highest - lowest
    step = (until - since) / width
    blocks: list[str] = []
    for number in range(1, width + 1):
        price = price_at(path, until if number == width else since + step * number)
        height = Decimal("0.5") if not span or price is None else (price - lowest) / span
        blocks.append(EMPTY if price is None else BLOCKS[round(height * (len(BLOCKS) - 1))])
    return "".join(blocks)


def price_range(paths: Sequence[Sequence[Point]]) -> tuple[Decimal, Decimal]:
    """Return the lowest and the highest price of all paths; zeros if there is none."""
    prices = [price for path in paths for _, price in path if price is not None]
    return min(prices, default=Decimal(0)), max(prices, default=Decimal(0))


def price_at(path: Sequence[Point], at: datetime) -> Decimal | None:
    price = None
    for instant, value in path:
        if instant > at:
            break
        price = value
    return price
