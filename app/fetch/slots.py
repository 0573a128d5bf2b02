"""How many requests are under way at a host, in one process: first come, first served."""

import asyncio
import contextlib
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Lane:
    used: int = 0
    line: deque[tuple[asyncio.Future[None], int]] = field(
        default_factory=deque[tuple[asyncio.Future[None], int]]
    )


class Slots:
    """The slots of one process, by host. A host that nobody asks costs nothing."""

    def __init__(self) -> None:
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    async def take(self, host: str, most: int) -> None:
        """Wait until fewer than `most` requests are under way, then count as one of them."""
        lane = self._lanes[host]
        if lane.used < most and not lane.line:
            lane.used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        lane.line.append((turn, most))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.free(host)  # had its turn in the moment it was cancelled
            else:
                with contextlib.suppress(ValueError):  # its turn may have been passed over already
                    lane.line.remove((turn, most))
                self._next(host, lane)
            raise

    def free(self, host: str) -> None:
        """A request has ended."""
        lane = self._lanes[host]
        lane.used -= 1
        self._next(host, lane)

    def under_way(self, host: str) -> int:
        """How many requests have a slot of `host`."""
        lane = self._lanes.get(host)
        return lane.used if lane else 0

    def _next(self, host: str, lane: _Lane) -> None:
        while lane.line and lane.used < lane.line[0][1]:
            turn, _ = lane.line.popleft()
            if not turn.done():
                lane.used += 1
                turn.set_result(None)
        if not lane.used and not lane.line:
            self._lanes.pop(host, None)
