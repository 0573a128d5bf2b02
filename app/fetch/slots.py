"""Concurrency slots of hosts in one process, granted in the order of requests."""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _HostSlots:
    used: int = 0
    waiting: deque[tuple[asyncio.Future[None], int]] = field(
        default_factory=deque[tuple[asyncio.Future[None], int]]
    )


class Slots:
    """The slots of one process, by host. An idle host uses no memory."""

    def __init__(self) -> None:
        self._hosts: defaultdict[str, _HostSlots] = defaultdict(_HostSlots)

    async def acquire(self, host: str, limit: int) -> float:
        """Wait until fewer than `limit` requests are in flight, then take a slot.

        Returns the seconds spent waiting for it.
        """
        slots = self._hosts[host]
        if slots.used < limit and not slots.waiting:
            slots.used += 1
            return 0.0
        began = time.monotonic()
        granted = asyncio.get_running_loop().create_future()
        slots.waiting.append((granted, limit))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(host)  # the slot was granted just before the cancellation
            else:
                with contextlib.suppress(ValueError):  # may have been removed already
                    slots.waiting.remove((granted, limit))
                self._grant_next(host, slots)
            raise
        return time.monotonic() - began

    def release(self, host: str) -> None:
        """Release the slot of a request that has ended."""
        slots = self._hosts[host]
        slots.used -= 1
        self._grant_next(host, slots)

    def _grant_next(self, host: str, slots: _HostSlots) -> None:
        while slots.waiting and slots.used < slots.waiting[0][1]:
            granted, _ = slots.waiting.popleft()
            if not granted.done():
                slots.used += 1
                granted.set_result(None)
        if not slots.used and not slots.waiting:
            self._hosts.pop(host, None)
