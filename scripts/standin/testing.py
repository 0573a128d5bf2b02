"""Runs the stand-in sites in a thread of the calling process, for tests and benchmarks."""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import msgspec

from scripts.standin.faults import Fault
from scripts.standin.server import Options, StandIn, listening
from scripts.standin.world import World

_TIMEOUT = 10.0


class Standin:
    """Stand-in sites that listen on a free loopback port while the block lasts.

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
        """Start listening, with the given `Options`. Close it by `with` or `close()`."""
        standin = cls(Options(**options))
        standin._thread.start()
        standin.url = standin._ready.result(_TIMEOUT)
        return standin

    @property
    def world(self) -> World:
        """The data of the sites. Only `advance` may change it."""
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
        """The URL of AskNews' OAuth2 tokens."""
        return f"{self.url}/asknews/oauth2/token"

    def fault(self, path: str, kind: str, **details: Any) -> None:
        """Activate a fault (see `Fault`). Raises msgspec.ValidationError if it is invalid."""
        fault = msgspec.convert({"path": path, "kind": kind, **details}, Fault)
        self._call(lambda: self._standin.faults.add(fault, self.world.view))

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._call(self._standin.faults.clear)

    def revoke_tokens(self) -> None:
        """Revoke every OAuth2 token of AskNews."""
        self._call(self._standin.revoke_tokens)

    def advance(self, ticks: int = 1, share: float | None = None) -> int:
        """Change prices; returns the new version of the world."""
        return self._call(lambda: [self.world.advance(share) for _ in range(ticks)][-1])

    def stats(self) -> dict[str, Any]:
        """Return what GET /control/stats returns."""
        return self._call(self._standin.stats)

    def close(self) -> None:
        """Stop listening and wait for the thread to end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_TIMEOUT)

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
        return answer.result(_TIMEOUT)

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
