"""The server of the stand-in sites: routing, injected faults, and the control endpoints."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import msgspec

from scripts.standin import asknews, bet9ja, betpawa, sportybet
from scripts.standin.asknews import Access, AskNews
from scripts.standin.bet9ja import Bet9ja
from scripts.standin.betpawa import BetPawa
from scripts.standin.faults import Fault, Faults
from scripts.standin.news import News
from scripts.standin.sportybet import SportyBet
from scripts.standin.stats import SiteStats
from scripts.standin.wire import Connection, Reply, Request, json_reply
from scripts.standin.world import View, World

_BLOCKED = b"<!doctype html><html><head><title>Access denied</title></head><body></body></html>"
_MAX_BYTES = 64 * 1024 * 1024


class Site(Protocol):
    """The interface of a stand-in site."""

    def answer(self, path: str, request: Request, view: View) -> Reply:
        """Answer a request; `path` is the part after the site's prefix."""
        ...

    def failed(self) -> Reply:
        """Return the site's error response with HTTP 200."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the stand-in sites.

    `events` per site. The prices of `move_share` of the matches change with each version; a new
    version is made every `move_every` seconds, if set, and by POST /control/advance.
    `latency`: seconds before every response. `start` (UTC): kick-offs fall in the ten days from it.
    """

    seed: int = 1
    events: int = 700
    move_share: float = 0.01
    move_every: float | None = None
    latency: float = 0.0
    betpawa_empty: float = 0.0
    start: datetime | None = None
    access: Access = field(default_factory=Access)


class _Ticks(msgspec.Struct, forbid_unknown_fields=True):
    ticks: int = 1
    share: float | None = None


class StandIn:
    """All stand-in sites. `serve` answers one request on its connection, at once or later."""

    def __init__(self, options: Options) -> None:
        start = options.start or datetime.now(UTC).replace(second=0, microsecond=0)
        step = timedelta(seconds=options.move_every or 60)
        self.options = options
        self.world = World(options.seed, options.events, start, options.move_share)
        self.faults = Faults(options.seed)
        self.connections: set[Connection] = set()
        self._asknews = AskNews(News(options.seed, start, step), options.access, time.monotonic)
        self._sites: dict[str, Site] = {
            sportybet.NAME: SportyBet(self.world),
            betpawa.NAME: BetPawa(self.world),
            bet9ja.NAME: Bet9ja(self.world),
            asknews.NAME: self._asknews,
        }
        self._stats = {name: SiteStats() for name in self._sites}
        self._control: dict[str, Callable[[Request], Reply]] = {
            "GET healthz": self._healthz,
            "GET stats": self._show_stats,
            "DELETE stats": self._reset_stats,
            "POST advance": self._advance,
            "POST faults": self._add_fault,
            "DELETE faults": self._clear_faults,
            "DELETE tokens": self._revoke,
        }
        self._add_fault_of_options()

    def serve(self, request: Request, connection: Connection) -> None:
        """Answer one request on its connection."""
        _, name, path = (*request.path.split("/", 2), "", "")[:3]
        if name == "v1":  # AskNews' own client does not support a base URL with a path
            name, path = asknews.NAME, f"v1/{path}"
        if name not in self._sites:
            connection.send(self._serve_control(name, path, request))
            return
        stats = self._stats[name]
        stats.request_started(time.monotonic(), request.headers.get("user-agent", ""))
        self._asknews.busy = self._stats[asknews.NAME].now
        connection.on_end = partial(self._ended, name)
        if self.options.latency:
            connection.later(
                self.options.latency, lambda: self._at_site(name, f"/{path}", request, connection)
            )
        else:
            self._at_site(name, f"/{path}", request, connection)

    def stats(self) -> dict[str, object]:
        """Return the request statistics of each site, and the world's version."""
        sites = {name: stats.as_json() for name, stats in self._stats.items()}
        total = sum(stats.requests for stats in self._stats.values())
        return {"version": self.world.view.version, "requests": total, "sites": sites}

    def revoke_tokens(self) -> None:
        """Revoke every OAuth2 token of AskNews."""
        self._asknews.revoke()

    def _add_fault_of_options(self) -> None:
        share = self.options.betpawa_empty
        if share:
            fault = Fault(path="/betpawa", kind="empty", match="q=", share=share)
            self.faults.add(fault, self.world.view)

    def _at_site(self, name: str, path: str, request: Request, connection: Connection) -> None:
        applied = self.faults.apply(request)
        if applied is None:
            self._send(name, connection, self._answer(name, path, request, self.world.view))
            return
        fault, then = applied
        self._stats[name].faults[fault.kind] += 1
        view = _view(fault, self.world.view, then)
        site = self._sites[name]
        if fault.kind == "reset":
            connection.reset()
        elif fault.kind == "delay":
            connection.later(
                fault.seconds,
                lambda: self._send(
                    name, connection, self._answer(name, path, request, self.world.view)
                ),
            )
        elif fault.kind == "slow_body":
            connection.trickle(self._answer(name, path, request, view), fault.seconds)
        elif fault.kind == "truncated":
            connection.truncate(self._answer(name, path, request, view))
        else:
            reply = _faulty_reply(fault, name, site) or self._answer(name, path, request, view)
            self._send(name, connection, reply)

    def _answer(self, name: str, path: str, request: Request, view: View) -> Reply:
        try:
            return self._sites[name].answer(path, request, view)
        except ValueError as error:
            return json_reply({"error": str(error)}, 400)

    def _ended(self, name: str) -> None:
        self._stats[name].request_ended()

    def _send(self, name: str, connection: Connection, reply: Reply) -> None:
        self._stats[name].statuses[str(reply.status)] += 1
        connection.send(reply)

    def _serve_control(self, name: str, path: str, request: Request) -> Reply:
        if name == "bytes" and path.isdecimal():
            return Reply(200, bytes(min(int(path), _MAX_BYTES)), "application/octet-stream")
        action = self._control.get(f"{request.method} {path}") if name == "control" else None
        if action is None:
            return json_reply({"error": "no such page"}, 404)
        try:
            return action(request)
        except msgspec.DecodeError as error:
            return json_reply({"error": str(error)}, 400)

    def _healthz(self, request: Request) -> Reply:
        del request
        counts = {site: len(matches) for site, matches in self.world.listed.items()}
        return json_reply({"status": "ok", "version": self.world.view.version, "events": counts})

    def _show_stats(self, request: Request) -> Reply:
        del request
        return json_reply(self.stats())

    def _reset_stats(self, request: Request) -> Reply:
        self._stats = {name: SiteStats(stats.now) for name, stats in self._stats.items()}
        return self._show_stats(request)

    def _advance(self, request: Request) -> Reply:
        asked = msgspec.json.decode(request.body or b"{}", type=_Ticks)
        for _ in range(asked.ticks):
            self.world.advance(asked.share)
        return json_reply({"version": self.world.view.version})

    def _add_fault(self, request: Request) -> Reply:
        fault = msgspec.json.decode(request.body, type=Fault)
        self.faults.add(fault, self.world.view)
        return json_reply(fault, 201)

    def _clear_faults(self, request: Request) -> Reply:
        del request
        self.faults.clear()
        return Reply(204, b"")

    def _revoke(self, request: Request) -> Reply:
        del request
        self.revoke_tokens()
        return Reply(204, b"")


@asynccontextmanager
async def listening(standin: StandIn, port: int = 0) -> AsyncGenerator[str]:
    """Listen on a loopback port (0: any free one) while the block lasts; yields the base URL."""
    async with listening_at(standin, (port,)) as urls:
        yield urls[0]


@asynccontextmanager
async def listening_at(standin: StandIn, ports: Sequence[int]) -> AsyncGenerator[list[str]]:
    """Serve the same sites on several loopback ports, which are separate hosts to rate limiters.

    Yields the base URL of each, in order, and closes all connections on exit.
    """
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(_server(standin, port)) for port in ports]
        advancing = loop.create_task(_advance_periodically(standin))
        stack.push_async_callback(_cancel, advancing)
        yield [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]


@asynccontextmanager
async def _server(standin: StandIn, port: int) -> AsyncGenerator[asyncio.Server]:
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(standin.serve, standin.connections), "127.0.0.1", port
    )
    try:
        yield server
    finally:
        server.close()
        await _close_connections(standin)  # wait_closed waits for open connections
        await server.wait_closed()


async def _close_connections(standin: StandIn) -> None:
    for connection in list(standin.connections):
        connection.close()
    # An aborted transport closes its socket in the next iteration of the loop.
    await asyncio.sleep(0)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _advance_periodically(standin: StandIn) -> None:
    every = standin.options.move_every
    while every:
        await asyncio.sleep(every)
        standin.world.advance()


def _view(fault: Fault, now: View, then: View) -> View:
    if fault.kind == "stale":
        return then
    return replace(now, partial=fault.kind == "partial")


def _faulty_reply(fault: Fault, name: str, site: Site) -> Reply | None:
    """Return the reply that replaces the regular one, or None to send the regular one."""
    if fault.kind == "bizcode":
        return site.failed()
    if fault.kind == "empty":
        return Reply(fault.status or 200, b"")
    if fault.kind == "html":
        return Reply(fault.status or 200, _BLOCKED, "text/html; charset=utf-8")
    if fault.kind == "non_json":
        return Reply(fault.status or 502, b"upstream connect error")
    if fault.kind in {"status", "retry_after"}:
        return _refusal(fault, name)
    return None


def _refusal(fault: Fault, name: str) -> Reply:
    waits = fault.kind == "retry_after"
    status = fault.status or (429 if waits else 503)
    reply = json_reply({"error": status}, status)
    if name == asknews.NAME:
        reply = asknews.error(status, code=fault.code)
    headers = (("retry-after", fault.retry_after),) if waits else ()
    return msgspec.structs.replace(reply, headers=headers)
