"""The path of a price as one line of blocks. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

BLOCKS = "▁▂▃▄▅▆▇█"
NOTHING = " "

Point = tuple[datetime, Decimal | None]


def drawn(path: Sequence[Point], since: datetime, until: datetime, width: int) -> str:
    """One block for each of `width` stretches of time, at the price at the end of the stretch.

    `path` is in order of time; None is no price, and so is the time before the first point.
    """
    lowest, highest = spread([path])
    span = highest - lowest
    step = (until - since) / width
    blocks: list[str] = []
    for number in range(1, width + 1):
        price = price_at(path, until if number == width else since + step * number)
        share = Decimal("0.5") if not span or price is None else (price - lowest) / span
        blocks.append(NOTHING if price is None else BLOCKS[round(share * (len(BLOCKS) - 1))])
    return "".join(blocks)


def spread(paths: Sequence[Sequence[Point]]) -> tuple[Decimal, Decimal]:
    """The lowest and the highest price of all; noughts if there is none."""
    prices = [price for path in paths for _, price in path if price is not None]
    return min(prices, default=Decimal(0)), max(prices, default=Decimal(0))


def price_at(path: Sequence[Point], at: datetime) -> Decimal | None:
    """The price as of that instant."""
    price = None
    for instant, value in path:
        if instant > at:
            break
        price = value
    return price
