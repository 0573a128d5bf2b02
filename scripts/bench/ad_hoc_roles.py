"""Shared by the contenders of ad-hoc jobs: what one enqueues, and a record of when.

Nothing here is imported from the project: the contenders run in environments of their own.
"""

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from timing import Stopwatch  # found by PYTHONPATH

Enqueue = Callable[[int], Awaitable[object]]


async def produce(wanted: argparse.Namespace, enqueue: Enqueue) -> None:
    """Enqueue the numbers from `first` on, with a pause of about `gap` seconds after each.

    Each is recorded just before.
    """
    watch, pauses = Stopwatch(wanted.record), random.Random(wanted.first)  # noqa: S311 - no secret
    for number in range(wanted.first, wanted.first + wanted.count):
        watch.start(number)
        await enqueue(number)
        if wanted.gap:
            await asyncio.sleep(wanted.gap * pauses.uniform(0.5, 1.5))


def asked(about: str) -> argparse.Namespace:
    """Parse a contender's command line: `role`, `record` and the URLs of its servers."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--role", choices=("prepare", "worker", "producer"), required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--gap", type=float, default=0.0)
    parser.add_argument("--redis", default="")
    parser.add_argument("--postgres", default="")
    return parser.parse_args()
