"""Who we are to a site that wants to know: a key, or tokens that are fetched and kept for it.

No secret leaves this room but in the request it is for: neither in a failure nor in a log line.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec
from pydantic import SecretStr

from app.errors import Auth, Failure, Schema
from app.fetch.client import Tally, Window
from app.messages import Limits, Partition, Raw, Request

TOKEN_LIMITS = Limits(rate=1, burst=3, concurrency=1)
UNSAID_LIFE = 300.0  # seconds; of a token that does not say how long it is good
EARLY = (
    60.0  # seconds, or a tenth of its life, before its end in which a token is not used any more
)
SORE = 60.0  # seconds for which refused credentials are not shown again
_REFUSALS = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that goes with every request. `setting` names it to people."""

    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """OAuth2 client credentials (RFC 6749 4.4). `setting` names them to people."""

    token_url: str
    client_id: str
    secret: SecretStr
    scope: str
    setting: str


Login = ApiKey | ClientCredentials


class Keeper(Protocol):
    """Has the `Authorization` to show."""

    async def header(self, tally: Tally, refused: str | None = None) -> str:
        """The header's value; another than `refused`, if there can be another."""
        ...


@dataclass(frozen=True, slots=True)
class KeyKeeper:
    """Has a key, and no other."""

    login: ApiKey

    async def header(self, tally: Tally, refused: str | None = None) -> str:
        """See Keeper."""
        del tally, refused
        return f"Bearer {self.login.key.get_secret_value()}"


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


_token = msgspec.json.Decoder(_Token)


@dataclass(slots=True)
class TokenKeeper:
    """Fetches a token when one is needed, once for all who wait, and keeps it until it gets old.

    `clock` is in seconds and only moves forward.
    """

    login: ClientCredentials
    window: Window
    clock: Callable[[], float] = time.monotonic
    _header: str | None = field(default=None, init=False, repr=False)
    _until: float = field(default=0.0, init=False)
    _sore: tuple[float, Failure] | None = field(default=None, init=False)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def header(self, tally: Tally, refused: str | None = None) -> str:
        """See Keeper. Raises Auth if the credentials are refused, or why there is no answer."""
        async with self._one:
            kept = self._header
            if kept is None or kept == refused or self.clock() >= self._until:
                kept = await self._renewed(tally)
            return kept

    async def _renewed(self, tally: Tally) -> str:
        if self._sore is not None and self.clock() < self._sore[0]:
            raise _again(self._sore[1])
        self._header, asked_at = None, self.clock()
        try:
            raw = await self.window.ask(self._request(), partition=None, page=1, tally=tally)
        except Failure as failure:
            if failure.status not in _REFUSALS:
                raise
            refusal = _named(failure, self.login.setting)
            self._sore = (self.clock() + SORE, refusal)
            raise refusal from failure
        token = _read(raw)
        life = UNSAID_LIFE if token.expires_in is None else token.expires_in
        self._until = asked_at + life - min(EARLY, life / 10)
        self._header = f"Bearer {token.access_token}"
        return self._header

    def _request(self) -> Request:
        login = self.login
        secret = quote(login.secret.get_secret_value(), safe="")
        pair = f"{quote(login.client_id, safe='')}:{secret}"
        form = {"grant_type": "client_credentials", "scope": login.scope}
        return Request(
            login.token_url,
            method="POST",
            headers={
                "authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "content-type": "application/x-www-form-urlencoded",
            },
            body=urlencode(form).encode(),
        )


@dataclass(slots=True)
class SignedWindow:
    """A window whose requests say who asks. A 401 is answered with another token, once."""

    window: Window
    keeper: Keeper
    setting: str

    async def ask(
        self, request: Request, *, partition: Partition | None, page: int, tally: Tally
    ) -> Raw:
        """As Window.ask. Raises Auth, which names the setting, if the site does not know us."""
        shown = await self.keeper.header(tally)
        try:
            return await self.window.ask(
                _signed(request, shown), partition=partition, page=page, tally=tally
            )
        except Auth as refused:
            other = await self.keeper.header(tally, shown)
            if other == shown:
                raise _named(refused, self.setting) from refused
        tally.retries += 1
        try:
            return await self.window.ask(
                _signed(request, other), partition=partition, page=page, tally=tally
            )
        except Auth as refused:
            raise _named(refused, self.setting) from refused

    def pace(self, limits: Limits) -> None:
        """See Window.pace."""
        self.window.pace(limits)


def keeper_of(login: Login, window: Window) -> Keeper:
    """Who keeps this login's header; tokens are asked for as `window` asks, but seldom."""
    if isinstance(login, ApiKey):
        return KeyKeeper(login)
    return TokenKeeper(login, replace(window, limits=TOKEN_LIMITS))


def _signed(request: Request, shown: str) -> Request:
    return replace(request, headers={**request.headers, "authorization": shown})


def _named(failure: Failure, setting: str) -> Auth:
    named = Auth(
        f"{setting} is not accepted: {failure}", status=failure.status, url=failure.url, retry=False
    )
    named.attempts = failure.attempts
    return named


def _again(failure: Failure) -> Auth:
    return Auth(str(failure), status=failure.status, url=failure.url, retry=False)


def _read(raw: Raw) -> _Token:
    try:
        token = _token.decode(raw.body)
    except (ValueError, RecursionError):
        # Without its cause: that may quote the answer, which holds a token.
        raise Schema("the token's answer is no token", status=raw.status, url=raw.url) from None
    if not token.access_token.isascii() or not token.access_token.isprintable():
        raise Schema("the token is no token", status=raw.status, url=raw.url)
    return token
