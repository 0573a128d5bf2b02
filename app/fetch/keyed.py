"""Windows for sources that users write: guarded, and with whatever key the site has asked for."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import unquote_plus, urlencode

import httpx
from pydantic import SecretStr

from app.errors import Auth, Failure
from app.fetch import urls
from app.fetch.auth import (
    ApiKey,
    ClientCredentials,
    Keeper,
    Login,
    SignedWindow,
    keeper_of,
)
from app.fetch.client import Tally, Window
from app.fetch.limiter import Limiter
from app.messages import Limits, Partition, Raw, Request

MOST_WINDOWS = 4_096
MOST_KEEPERS = 1_024


@dataclass(frozen=True, slots=True)
class HeaderKey:
    """A header that carries a key. `setting` names the key to people."""

    name: str
    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class QueryKey:
    """A parameter of the address that carries a key."""

    name: str
    key: SecretStr
    setting: str


@dataclass(frozen=True, slots=True)
class NamePassword:
    """Basic authentication (RFC 7617)."""

    username: str
    key: SecretStr
    setting: str


Key = HeaderKey | QueryKey | NamePassword


@dataclass(frozen=True, slots=True)
class Opening:
    """How a window is to be: how hard it may ask, who it says we are, how often it tries."""

    limits: Limits
    login: Login | Key | None = None
    attempts: int = 3


@dataclass(slots=True)
class KeyedWindow:
    """A window whose requests carry a key. The key is in nothing that leaves this room."""

    window: Window
    key: Key

    async def ask(
        self, request: Request, *, partition: Partition | None, page: int, tally: Tally
    ) -> Raw:
        """As Window.ask. Raises Auth, which names the key, if the site does not take it."""
        secrets = _secrets(self.key)
        with urls.hiding(secrets):
            try:
                raw = await self.window.ask(
                    _carrying(request, self.key), partition=partition, page=page, tally=tally
                )
                return _unquoted(raw, urls.written(secrets))
            except Failure as failure:
                raise _told(failure, self.key, urls.written(secrets)) from None

    def pace(self, limits: Limits) -> None:
        """See Window.pace."""
        self.window.pace(limits)


AnyWindow = Window | SignedWindow | KeyedWindow


@dataclass(slots=True)
class Visits:
    """Opens windows by a client whose addresses are guarded, and remembers which it did."""

    client: httpx.AsyncClient
    limiter: Limiter
    clock: Callable[[], datetime]
    _names: dict[str, None] = field(default_factory=dict[str, None], init=False)
    _keepers: dict[Login, Keeper] = field(default_factory=dict[Login, Keeper], init=False)

    def opened(self, name: str) -> Iterator[str]:
        """Take note of a window; gives the names of those that are too many now."""
        self._names.pop(name, None)
        self._names[name] = None
        while len(self._names) > MOST_WINDOWS:
            oldest = next(iter(self._names))
            del self._names[oldest]
            yield oldest

    def window(self, name: str, opening: Opening) -> AnyWindow:
        """A window that asks as it is told."""
        plain = Window(
            self.client,
            self.limiter,
            source=name,
            limits=opening.limits,
            clock=self.clock,
            attempts=opening.attempts,
        )
        login = opening.login
        if login is None:
            return plain
        if isinstance(login, Key):
            return KeyedWindow(plain, login)
        return SignedWindow(plain, self._keeper(login, plain), login.setting)

    def _keeper(self, login: Login, window: Window) -> Keeper:
        # A token outlives the run it was fetched for.
        if len(self._keepers) >= MOST_KEEPERS:
            self._keepers.clear()
        return self._keepers.setdefault(login, keeper_of(login, window))


def shown_nowhere(opening: Opening) -> list[str]:
    """What a window that is opened so must not let be seen."""
    match opening.login:
        case None:
            return []
        case ApiKey() as login:
            return [login.key.get_secret_value()]
        case ClientCredentials() as login:
            return [login.secret.get_secret_value()]
        case key:
            return _secrets(key)


def _carrying(request: Request, key: Key) -> Request:
    secret = key.key.get_secret_value()
    match key:
        case QueryKey():
            return replace(request, url=_with(request.url, key.name, secret))
        case HeaderKey():
            return replace(request, headers={**request.headers, key.name.lower(): secret})
        case NamePassword():
            shown = {"authorization": f"Basic {_pair(key)}"}
            return replace(request, headers={**request.headers, **shown})


def _with(url: str, name: str, secret: str) -> str:
    # A site may have written the key into the address of its next page, where we have masked it.
    bare, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and unquote_plus(pair.split("=")[0]) != name]
    return f"{bare}?{'&'.join([*kept, urlencode({name: secret})])}"


def _unquoted(raw: Raw, forms: tuple[str, ...]) -> Raw:
    return replace(raw, headers={n: urls.masked(v, forms) for n, v in raw.headers.items()})


def _pair(key: NamePassword) -> str:
    return base64.b64encode(f"{key.username}:{key.key.get_secret_value()}".encode()).decode()


def _secrets(key: Key) -> list[str]:
    secret = key.key.get_secret_value()
    return [secret, _pair(key)] if isinstance(key, NamePassword) else [secret]


def _told(failure: Failure, key: Key, forms: tuple[str, ...]) -> Failure:
    message = urls.masked(str(failure), forms)
    if isinstance(failure, Auth):
        message = f"{key.setting} is not accepted: {message}"
    told = type(failure)(
        message,
        status=failure.status,
        url=failure.url,
        retry=failure.retry and not isinstance(failure, Auth),
        retry_in=failure.retry_in,
    )
    told.attempts = failure.attempts
    return told
