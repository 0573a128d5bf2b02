"""The stand-in web inside the calling process, in a thread of its own. For tests and benchmarks."""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import msgspec

from scripts.standin.faults import Fault
from scripts.standin.server import Options, StandIn, listening
from scripts.standin.world import World

_PATIENCE = 10.0


class Standin:
    """A stand-in web that listens on a free loopback port while the block lasts.

    `with Standin.start(events=50) as web:` (or `async with`) gives `web.url`.
    """

    def __init__(self, options: Options) -> None:
        self.url = ""
        self._standin = StandIn(options)
        self._ready: Future[str] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="standin", daemon=True)

    @classmethod
    def start(cls, **options: Any) -> Self:
        """Listen, with the given `Options`. To be closed, by `with` or by `close()`."""
        standin = cls(Options(**options))
        standin._thread.start()
        standin.url = standin._ready.result(_PATIENCE)
        return standin

    @property
    def world(self) -> World:
        """What the sites know. Only `advance` may change it."""
        return self._standin.world

    @property
    def sportybet_url(self) -> str:
        """The base URL to give to the SportyBet source."""
        return f"{self.url}/sportybet/factsCenter"

    @property
    def betpawa_url(self) -> str:
        """The base URL to give to the BetPawa source, without the version."""
        return f"{self.url}/betpawa"

    @property
    def bet9ja_url(self) -> str:
        """The base URL to give to the Bet9ja source."""
        return f"{self.url}/bet9ja/PalimpsestAjax"

    @property
    def asknews_url(self) -> str:
        """The base URL to give to the AskNews sources."""
        return f"{self.url}/asknews/v1"

    @property
    def token_url(self) -> str:
        """Where AskNews gives out OAuth2 tokens."""
        return f"{self.url}/asknews/oauth2/token"

    def fault(self, path: str, kind: str, **details: Any) -> None:
        """Let a fault stand (see `Fault`). Raises msgspec.ValidationError if there is no such."""
        fault = msgspec.convert({"path": path, "kind": kind, **details}, Fault)
        self._call(lambda: self._standin.faults.add(fault, self.world.view))

    def clear_faults(self) -> None:
        """Let every request succeed again."""
        self._call(self._standin.faults.clear)

    def revoke_tokens(self) -> None:
        """Let no OAuth2 token of AskNews be good any longer."""
        self._call(self._standin.revoke_tokens)

    def advance(self, ticks: int = 1, share: float | None = None) -> int:
        """Move prices; returns the new version of the world."""
        return self._call(lambda: [self.world.advance(share) for _ in range(ticks)][-1])

    def stats(self) -> dict[str, Any]:
        """What GET /control/stats would say."""
        return self._call(self._standin.stats)

    def close(self) -> None:
        """Stop at once and wait until nothing is left."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def _call(self, do: Any) -> Any:
        answer: Future[Any] = Future()

        def called() -> None:
            try:
                answer.set_result(do())
            except Exception as error:  # noqa: BLE001  # handed to the caller's thread
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(called)
        return answer.result(_PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        try:
            async with listening(self._standin) as url:
                self._ready.set_result(url)
                await self._stop.wait()
        except OSError as error:
            self._ready.set_exception(error)
