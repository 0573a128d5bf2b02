"""Waiting for a condition, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(
    fact: Callable[[], Awaitable[T | None]], seconds: float = 30, what: str = "it"
) -> T: ...
@overload
async def until(fact: Callable[[], T | None], seconds: float = 30, what: str = "it") -> T: ...
async def until(fact: Callable[[], Any], seconds: float = 30, what: str = "it") -> Any:
    """Wait until `fact`, or what it is awaited to, is true; return it. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = fact()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.005)


def block_until(fact: Callable[[], bool], seconds: float = 30, what: str = "it") -> None:
    """Wait until `fact` is true, without an event loop. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
