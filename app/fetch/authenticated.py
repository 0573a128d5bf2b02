"""Fetchers for sources that users write: guarded, and with the credentials of each source."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import unquote_plus, urlencode

import httpx
from pydantic import SecretStr

from app.core.errors import Auth, Failure
from app.core.messages import Limits, Partition, Raw, Request
from app.fetch import urls
from app.fetch.client import Tally, Window
from app.fetch.limiter import Limiter
from app.fetch.tokens import ApiKey, ClientCredentials, Keeper, Login, SignedWindow, keeper_of

MOST_WINDOWS = 4_096
MOST_KEEPERS = 1_024


@dataclass(frozen=True, slots=True)
class HeaderKey:
    """A key sent in a header. `setting` is its name in messages."""

    name: str
    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class QueryKey:
    """A key sent in a query parameter. `setting` is its name in messages."""

    name: str
    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class NamePassword:
    """Basic authentication (RFC 7617). `setting` is the password's name in messages."""

    username: str
    key: SecretStr
    setting: str


Key = HeaderKey | QueryKey | NamePassword


@dataclass(frozen=True, slots=True)
class Opening:
    """The options of a fetcher: rate limits, credentials, and attempts for each page."""

    limits: Limits
    login: Login | Key | None = None
    attempts: int = 3


@dataclass(slots=True)
class KeyedWindow:
    """A fetcher that sends a key with its requests; masks it in URLs, headers and failures."""

    window: Window
    key: Key

    async def ask(
        self, request: Request, *, partition: Partition | None, page: int, tally: Tally
    ) -> Raw:
        """See Fetcher.fetch. Raises Auth, naming the key's setting, if the key is refused."""
        secrets = _secrets(self.key)
        with urls.hiding(secrets):
            try:
                raw = await self.window.ask(
                    _with_key(request, self.key), partition=partition, page=page, tally=tally
                )
                return _with_masked_headers(raw, urls.written(secrets))
            except Failure as failure:
                raise _masked_failure(failure, self.key, urls.written(secrets)) from None

    def pace(self, limits: Limits) -> None:
        """See Fetcher.set_limits."""
        self.window.pace(limits)


AnyWindow = Window | SignedWindow | KeyedWindow


@dataclass(slots=True)
class Visits:
    """Creates fetchers on one guarded client, and tracks the least recently opened ones."""

    client: httpx.AsyncClient
    limiter: Limiter
    clock: Callable[[], datetime]
    _names: dict[str, None] = field(default_factory=dict[str, None], init=False)
    _providers: dict[Login, Keeper] = field(default_factory=dict[Login, Keeper], init=False)

    def opened(self, name: str) -> Iterator[str]:
        """Record `name` as opened; yield the names of the oldest ones beyond the limit."""
        self._names.pop(name, None)
        self._names[name] = None
        while len(self._names) > MOST_WINDOWS:
            oldest = next(iter(self._names))
            del self._names[oldest]
            yield oldest

    def window(self, name: str, opening: Opening) -> AnyWindow:
        """Return a fetcher with these options."""
        fetcher = Window(
            self.client,
            self.limiter,
            source=name,
            limits=opening.limits,
            clock=self.clock,
            attempts=opening.attempts,
        )
        login = opening.login
        if login is None:
            return fetcher
        if isinstance(login, Key):
            return KeyedWindow(fetcher, login)
        return SignedWindow(fetcher, self._provider(login, fetcher), login.setting)

    def _provider(self, login: Login, fetcher: Window) -> Keeper:
        # Shared between fetchers, because a token outlives the run it was fetched for.
        if len(self._providers) >= MOST_KEEPERS:
            self._providers.clear()
        return self._providers.setdefault(login, keeper_of(login, fetcher))


def shown_nowhere(opening: Opening) -> list[str]:
    """The secrets of these options, to be masked in everything that is shown."""
    match opening.login:
        case None:
            return []
        case ApiKey() as login:
            return [login.key.get_secret_value()]
        case ClientCredentials() as login:
            return [login.secret.get_secret_value()]
        case key:
            return _secrets(key)


def _with_key(request: Request, key: Key) -> Request:
    secret = key.key.get_secret_value()
    match key:
        case QueryKey():
            return replace(request, url=_with_query_key(request.url, key.name, secret))
        case HeaderKey():
            return replace(request, headers={**request.headers, key.name.lower(): secret})
        case NamePassword():
            headers = {"authorization": f"Basic {_basic_token(key)}"}
            return replace(request, headers={**request.headers, **headers})


def _with_query_key(url: str, name: str, secret: str) -> str:
    # The URL of a next page may contain the key, which we have masked there.
    bare, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and unquote_plus(pair.split("=")[0]) != name]
    return f"{bare}?{'&'.join([*kept, urlencode({name: secret})])}"


def _with_masked_headers(raw: Raw, forms: tuple[str, ...]) -> Raw:
    return replace(raw, headers={n: urls.masked(v, forms) for n, v in raw.headers.items()})


def _basic_token(key: NamePassword) -> str:
    return base64.b64encode(f"{key.username}:{key.key.get_secret_value()}".encode()).decode()


def _secrets(key: Key) -> list[str]:
    secret = key.key.get_secret_value()
    return [secret, _basic_token(key)] if isinstance(key, NamePassword) else [secret]


def _masked_failure(failure: Failure, key: Key, forms: tuple[str, ...]) -> Failure:
    message = urls.masked(str(failure), forms)
    if isinstance(failure, Auth):
        message = f"{key.setting} is not accepted: {message}"
    masked = type(failure)(
        message,
        status=failure.status,
        url=failure.url,
        retry=failure.retry and not isinstance(failure, Auth),
        retry_in=failure.retry_in,
    )
    masked.attempts = failure.attempts
    return masked
