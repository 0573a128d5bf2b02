"""Authentication of requests with an API key or OAuth2 client credentials.

Secrets are sent only in the requests they are for, and appear in no failure and no log line.
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

from app.core.errors import Auth, Failure, Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.fetch.client import Fetcher, RequestCounts

TOKEN_LIMITS = HostLimits(rate=1, burst=3, concurrency=1)
DEFAULT_TOKEN_LIFE = 300.0  # seconds; of a token without `expires_in`
RENEW_BEFORE_EXPIRY = (
    60.0  # seconds (at most a tenth of its life) before its end at which a token is renewed
)
REFUSAL_HOLD = 60.0  # seconds for which refused credentials are not sent again
_REFUSALS = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key sent with every request. `setting` is its name in messages."""

    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """OAuth2 client credentials (RFC 6749 4.4). `setting` is their name in messages."""

    token_url: str
    client_id: str
    secret: SecretStr
    scope: str
    setting: str


Login = ApiKey | ClientCredentials


class AuthorizationProvider(Protocol):
    """Provides the `Authorization` header."""

    async def header(self, tally: RequestCounts, refused: str | None = None) -> str:
        """The header's value; a new one if it would equal `refused` and can be renewed."""
        ...


@dataclass(frozen=True, slots=True)
class ApiKeyProvider:
    """Provides a header with a fixed API key."""

    login: ApiKey

    async def header(self, tally: RequestCounts, refused: str | None = None) -> str:
        """See AuthorizationProvider.header."""
        del tally, refused
        return f"Bearer {header_value(self.login.key, self.login.setting)}"


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


_token_decoder = msgspec.json.Decoder(_Token)


@dataclass(slots=True)
class TokenProvider:
    """Fetches a token on demand, once for concurrent callers, and keeps it until it is renewed.

    `clock` is monotonic, in seconds.
    """

    login: ClientCredentials
    fetcher: Fetcher
    clock: Callable[[], float] = time.monotonic
    _header: str | None = field(default=None, init=False, repr=False)
    _until: float = field(default=0.0, init=False)
    _refusal: tuple[float, Failure] | None = field(default=None, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def header(self, tally: RequestCounts, refused: str | None = None) -> str:
        """See AuthorizationProvider.header.

        Raises Auth if the credentials are refused, or what `Fetcher.fetch` raises.
        """
        async with self._lock:
            header = self._header
            if header is None or header == refused or self.clock() >= self._until:
                header = await self._renew(tally)
            return header

    async def _renew(self, tally: RequestCounts) -> str:
        if self._refusal is not None and self.clock() < self._refusal[0]:
            raise _copy_of(self._refusal[1])
        self._header, asked_at = None, self.clock()
        try:
            raw = await self.fetcher.fetch(self._request(), partition=None, page=1, tally=tally)
        except Failure as failure:
            if failure.status not in _REFUSALS:
                raise
            refusal = _naming_setting(failure, self.login.setting)
            self._refusal = (self.clock() + REFUSAL_HOLD, refusal)
            raise refusal from failure
        token = _parse_token(raw)
        life = DEFAULT_TOKEN_LIFE if token.expires_in is None else token.expires_in
        self._until = asked_at + life - min(RENEW_BEFORE_EXPIRY, life / 10)
        self._header = f"Bearer {token.access_token}"
        return self._header

    def _request(self) -> SourceRequest:
        login = self.login
        secret = quote(login.secret.get_secret_value(), safe="")
        pair = f"{quote(login.client_id, safe='')}:{secret}"
        form = {"grant_type": "client_credentials", "scope": login.scope}
        return SourceRequest(
            login.token_url,
            secrets=(login.secret.get_secret_value(),),
            method="POST",
            headers={
                "authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
                "content-type": "application/x-www-form-urlencoded",
            },
            body=urlencode(form).encode(),
        )


@dataclass(slots=True)
class AuthenticatedFetcher:
    """A fetcher that authenticates its requests. After a 401 it retries once with a new token."""

    fetcher: Fetcher
    provider: AuthorizationProvider
    setting: str

    async def fetch(
        self,
        request: SourceRequest,
        *,
        partition: Partition | None,
        page: int,
        tally: RequestCounts,
    ) -> RawPage:
        """See Fetcher.fetch. Raises Auth, naming the setting, if the credentials are refused."""
        header = await self.provider.header(tally)
        try:
            return await self.fetcher.fetch(
                _with_authorization(request, header), partition=partition, page=page, tally=tally
            )
        except Auth as refused:
            other = await self.provider.header(tally, header)
            if other == header:
                raise _naming_setting(refused, self.setting) from refused
        tally.retries += 1
        try:
            return await self.fetcher.fetch(
                _with_authorization(request, other), partition=partition, page=page, tally=tally
            )
        except Auth as refused:
            raise _naming_setting(refused, self.setting) from refused

    def set_limits(self, limits: HostLimits) -> None:
        self.fetcher.set_limits(limits)


def header_value(secret: SecretStr, setting: str) -> str:
    """The secret, which is sent in a header. Raises Auth, naming the setting, if none can be."""
    value = secret.get_secret_value()
    if not (value.isascii() and value.isprintable()):
        raise Auth(
            f"{setting} cannot be sent in a header: it has characters other than printable ASCII;"
            " correct it",
            retry=False,
        )
    return value


def authorization_provider(login: Login, fetcher: Fetcher) -> AuthorizationProvider:
    """The header provider for `login`; tokens are fetched through `fetcher` with TOKEN_LIMITS."""
    if isinstance(login, ApiKey):
        return ApiKeyProvider(login)
    return TokenProvider(login, replace(fetcher, limits=TOKEN_LIMITS))


def _with_authorization(request: SourceRequest, header: str) -> SourceRequest:
    secrets = (*request.secrets, *header.split()[1:])
    return replace(request, headers={**request.headers, "authorization": header}, secrets=secrets)


def _naming_setting(failure: Failure, setting: str) -> Auth:
    named = Auth(
        f"{setting} is not accepted: {failure}", status=failure.status, url=failure.url, retry=False
    )
    named.attempts = failure.attempts
    return named


def _copy_of(failure: Failure) -> Auth:
    return Auth(str(failure), status=failure.status, url=failure.url, retry=False)


def _parse_token(raw: RawPage) -> _Token:
    try:
        token = _token_decoder.decode(raw.body)
    except (ValueError, RecursionError):
        # Without its cause, which may quote the response and so the token.
        raise Schema("the token response is invalid", status=raw.status, url=raw.url) from None
    if not token.access_token.isascii() or not token.access_token.isprintable():
        raise Schema("the access token is invalid", status=raw.status, url=raw.url)
    return token
