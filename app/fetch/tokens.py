"""Authentication of requests with OAuth2 client credentials.

Secrets are sent only in the requests they are for, and appear in no failure and no log line.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

import msgspec
from pydantic import SecretStr

from app.core.errors import Auth, Failure, Schema
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.fetch.client import Fetcher, RequestCounts

TOKEN_LIMITS = HostLimits(rate=1, burst=3, concurrency=1)
DEFAULT_TOKEN_LIFE = 300.0  # seconds; of a token without `expires_in`
RENEW_BEFORE_EXPIRY = (
    60.0  # seconds (at most a tenth of its life) before its end at which a token is renewed
)
REFUSAL_HOLD = 60.0  # seconds for which refused credentials are not sent again
_REFUSALS = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """OAuth2 client credentials (RFC 6749 4.4). `setting` is their name in messages."""

    token_url: str
    client_id: str
    secret: SecretStr
    scope: str
    setting: str


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
        """The value of the `Authorization` header; a new one if it would equal `refused`.

        Raises Auth if the credentials are refused, or what `Fetcher.fetch` raises.
        """
        async with self._lock:
            header = self._header
            if header is None or header == refused or self.clock() >= self._until:
                header = await self._renew(tally)
            return header

    async def _renew(self, tally: RequestCounts) -> str:
        if self._refusal is not None and self.clock() < self._refusal[0]:
            raise Auth.of(self._refusal[1], str(self._refusal[1]), retry=False)
        self._header, asked_at = None, self.clock()
        try:
            raw = await self.fetcher.fetch(self._request(), tally)
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
    """A fetcher that sends a token with requests. After a 401 it retries once with a new one."""

    fetcher: Fetcher
    provider: TokenProvider

    async def fetch(self, request: SourceRequest, tally: RequestCounts) -> RawPage:
        """See Fetcher.fetch. Raises Auth, naming the setting, if the credentials are refused."""
        header = await self.provider.header(tally)
        try:
            return await self.fetcher.fetch(_with_authorization(request, header), tally)
        except Auth as refused:
            other = await self.provider.header(tally, header)
            if other == header:
                raise self._refusal(refused) from refused
        tally.retries += 1
        try:
            return await self.fetcher.fetch(_with_authorization(request, other), tally)
        except Auth as refused:
            raise self._refusal(refused) from refused

    def _refusal(self, refused: Auth) -> Auth:
        return _naming_setting(refused, self.provider.login.setting)

    def set_limits(self, limits: HostLimits) -> None:
        self.fetcher.set_limits(limits)


def token_provider(login: ClientCredentials, fetcher: Fetcher) -> TokenProvider:
    """The provider for `login`; tokens are fetched through `fetcher` with TOKEN_LIMITS."""
    return TokenProvider(login, replace(fetcher, limits=TOKEN_LIMITS))


def _with_authorization(request: SourceRequest, header: str) -> SourceRequest:
    secrets = (*request.secrets, *header.split()[1:])
    return replace(request, headers={**request.headers, "authorization": header}, secrets=secrets)


def _naming_setting(failure: Failure, setting: str) -> Auth:
    return failure.restated(Auth, f"{setting} is not accepted: {failure}", retry=False)


def _parse_token(raw: RawPage) -> _Token:
    try:
        token = _token_decoder.decode(raw.body)
    except (ValueError, RecursionError):
        # Without its cause, which may quote the response and so the token.
        raise Schema.of(raw, "the token response is invalid") from None
    if not token.access_token.isascii() or not token.access_token.isprintable():
        raise Schema.of(raw, "the access token is invalid")
    return token
