"""Fetchers with the credentials of each source, and those for sources that users write."""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import unquote_plus, urlencode
from weakref import WeakValueDictionary

import httpx
from pydantic import SecretStr

from app.core.errors import Auth
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.fetch.client import Fetcher, RequestCounts
from app.fetch.permits import Limiter
from app.fetch.tokens import AuthenticatedFetcher, ClientCredentials, TokenProvider, token_provider

MAX_FETCHERS = 4_096
MAX_PROVIDERS = 1_024
OWNER_CONNECTIONS = 16  # pages that one organisation requests at once in one process


@dataclass(frozen=True, slots=True)
class BearerCredential:
    """A key sent as `Authorization: Bearer …`. `setting` is its name in messages."""

    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class HeaderCredential:
    """A key sent in a header. `setting` is its name in messages."""

    name: str
    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class QueryCredential:
    """A key sent in a query parameter. `setting` is its name in messages."""

    name: str
    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class BasicCredential:
    """Basic authentication (RFC 7617). `setting` is the password's name in messages."""

    username: str
    key: SecretStr
    setting: str


KeyCredential = BearerCredential | HeaderCredential | QueryCredential | BasicCredential
Login = KeyCredential | ClientCredentials


@dataclass(frozen=True, slots=True)
class FetcherOptions:
    """The options of a fetcher: rate limits, credentials, and attempts for each page.

    `owner`: the organisation that the source belongs to; empty for the operator.
    """

    limits: HostLimits
    login: Login | None = None
    attempts: int = 3
    owner: str = ""

    @property
    def tenant(self) -> str:
        """Whose state of a host applies: the owner's with these credentials; see `Limiter`."""
        if not self.owner:
            return ""
        secrets = "\n".join(secrets_of(self))
        return f"{self.owner}:{hashlib.sha256(secrets.encode()).hexdigest()[:8] if secrets else ''}"


@dataclass(slots=True)
class KeyedFetcher:
    """A fetcher that sends a key with its requests."""

    fetcher: Fetcher
    key: KeyCredential

    async def fetch(self, request: SourceRequest, tally: RequestCounts) -> RawPage:
        """See Fetcher.fetch. Raises Auth, naming the key's setting, if the key is refused."""
        secrets = (*request.secrets, *_secrets(self.key))
        request = replace(_with_key(request, self.key), secrets=secrets)
        try:
            return await self.fetcher.fetch(request, tally)
        except Auth as failure:
            failure.change_message(lambda message: f"{self.key.setting} is not accepted: {message}")
            failure.retry = False
            raise

    def set_limits(self, limits: HostLimits) -> None:
        self.fetcher.set_limits(limits)


AnyFetcher = Fetcher | AuthenticatedFetcher | KeyedFetcher


def for_owner(fetcher: AnyFetcher, owner: str) -> AnyFetcher:
    """A fetcher of the operator's for requests on behalf of an organisation."""
    if not isinstance(fetcher, Fetcher):
        return replace(fetcher, fetcher=_for_owner(fetcher.fetcher, owner))
    return _for_owner(fetcher, owner)


def _for_owner(fetcher: Fetcher, owner: str) -> Fetcher:
    return fetcher if fetcher.tenant else replace(fetcher, tenant=f"{owner}:", site=fetcher.limits)


@dataclass(slots=True)
class Fetchers:
    """Creates fetchers on one guarded client, and tracks the least recently opened ones."""

    client: httpx.AsyncClient
    limiter: Limiter
    clock: Callable[[], datetime]
    _names: dict[str, None] = field(default_factory=dict[str, None], init=False)
    _providers: dict[ClientCredentials, TokenProvider] = field(
        default_factory=dict[ClientCredentials, TokenProvider], init=False
    )
    _shares: WeakValueDictionary[str, asyncio.Semaphore] = field(
        default_factory=WeakValueDictionary[str, asyncio.Semaphore], init=False
    )

    def record_opened(self, name: str) -> Iterator[str]:
        """Record `name` as opened; yield the names of the oldest ones beyond the limit."""
        self._names.pop(name, None)
        self._names[name] = None
        while len(self._names) > MAX_FETCHERS:
            oldest = next(iter(self._names))
            del self._names[oldest]
            yield oldest

    def create(self, name: str, options: FetcherOptions) -> AnyFetcher:
        fetcher = Fetcher(
            self.client,
            self.limiter,
            source=name,
            limits=options.limits,
            clock=self.clock,
            attempts=options.attempts,
            tenant=options.tenant,
            share=self._share(options.owner),
        )
        # Shared between fetchers, because a token outlives the run it was fetched for.
        if len(self._providers) >= MAX_PROVIDERS:
            self._providers.clear()
        return with_login(fetcher, options.login, self._providers)

    def _share(self, owner: str) -> asyncio.Semaphore | None:
        """The pages that an organisation may request at once, over all its sources."""
        if not owner:
            return None
        share = self._shares.get(owner)
        if share is None:
            share = self._shares[owner] = asyncio.Semaphore(OWNER_CONNECTIONS)
        return share


def with_login(
    fetcher: Fetcher, login: Login | None, providers: dict[ClientCredentials, TokenProvider]
) -> AnyFetcher:
    """A fetcher that sends these credentials. `providers`: those of equal ones share a token."""
    match login:
        case None:
            return fetcher
        case ClientCredentials():
            provider = providers.setdefault(login, token_provider(login, fetcher))
            return AuthenticatedFetcher(fetcher, provider)
        case key:
            return KeyedFetcher(fetcher, key)


def secrets_of(options: FetcherOptions) -> list[str]:
    """The secrets of these options, to be masked in everything that is shown."""
    match options.login:
        case None:
            return []
        case ClientCredentials() as login:
            return [login.secret.get_secret_value()]
        case key:
            return _secrets(key)


def _with_key(request: SourceRequest, key: KeyCredential) -> SourceRequest:
    secret = key.key.get_secret_value()
    match key:
        case QueryCredential():
            return replace(request, url=_with_query_key(request.url, key.name, secret))
        case BearerCredential():
            header = {"authorization": f"Bearer {_header_value(key)}"}
        case HeaderCredential():
            header = {key.name.lower(): _header_value(key)}
        case BasicCredential():
            header = {"authorization": f"Basic {_basic_token(key)}"}
    return replace(request, headers={**request.headers, **header})


def _header_value(key: BearerCredential | HeaderCredential) -> str:
    """The key, which is sent in a header. Raises Auth, naming its setting, if none can be."""
    value = key.key.get_secret_value()
    if not (value.isascii() and value.isprintable()):
        raise Auth(
            f"{key.setting} cannot be sent in a header: it has characters other than printable"
            " ASCII; correct it",
            retry=False,
        )
    return value


def _with_query_key(url: str, name: str, secret: str) -> str:
    # The URL of a next page may contain the key, which we have masked there.
    bare, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and unquote_plus(pair.split("=")[0]) != name]
    return f"{bare}?{'&'.join([*kept, urlencode({name: secret})])}"


def _basic_token(key: BasicCredential) -> str:
    return base64.b64encode(f"{key.username}:{key.key.get_secret_value()}".encode()).decode()


def _secrets(key: KeyCredential) -> list[str]:
    secret = key.key.get_secret_value()
    return [secret, _basic_token(key)] if isinstance(key, BasicCredential) else [secret]
