"""Addresses: which we may visit, whose they are, and how to show them without their secrets."""

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit, urlunsplit

import httpx

from app.errors import TooLarge, Unsafe

LONGEST = 8_192
SHOWN = 500
_PORTS = {"http": 80, "https": 443}
_SECRET = re.compile(
    r"token|secret|passw|api.?key|signature|credential|authori[sz]ation|cookie"
    r"|(?:^|[^a-z])(?:key|sig|auth|pwd|pass)(?:$|[^a-z])",
    re.IGNORECASE,
)


_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_hidden: ContextVar[tuple[str, ...]] = ContextVar("_hidden", default=())
SHORTEST = 4  # characters; hiding a shorter secret would hide what is none


@contextmanager
def hiding(secrets: Iterable[str]) -> Generator[None]:
    """Show none of these values in any address meanwhile, whatever their parameters are called."""
    before = _hidden.set((*_hidden.get(), *written(secrets)))
    try:
        yield
    finally:
        _hidden.reset(before)


def written(secrets: Iterable[str]) -> tuple[str, ...]:
    """Every way in which these values may be written in an address, longest first."""
    usable = [secret for secret in secrets if len(secret) >= SHORTEST]
    ways = {way for s in usable for way in (s, quote(s), quote_plus(s), quote(s, safe=""))}
    ways |= {_ESCAPE.sub(lambda found: found[0].lower(), way) for way in ways}
    return tuple(sorted(ways, key=len, reverse=True))


def masked(text: str, forms: Iterable[str]) -> str:
    """`text` with `***` for each of these."""
    for form in forms:
        text = text.replace(form, "***")
    return text


def vet(url: httpx.URL) -> None:
    """Raises Unsafe unless `url` is http or https, with a host and no user; TooLarge if endless."""
    if len(str(url)) > LONGEST:
        raise TooLarge(f"the address is longer than {LONGEST} characters", url=public(str(url)))
    if url.scheme not in _PORTS:
        raise Unsafe(f"{url.scheme or 'no'} scheme: only http and https", url=public(str(url)))
    if not url.host:
        raise Unsafe("an address without a host", url=public(str(url)))
    if url.userinfo:
        raise Unsafe("an address with a user in it: use a header", url=public(str(url)))


def host_key(url: httpx.URL) -> str:
    """The name under which a host's limits are kept: `host:port`, the port always said."""
    return f"{url.host.rstrip('.')}:{url.port or _PORTS.get(url.scheme, 0)}"


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether what was meant for `one` may be told to `other`."""
    return one.scheme == other.scheme and host_key(one) == host_key(other)


def public(url: str) -> str:
    """`url` for people and logs: no user, no fragment, `***` for secrets. Never raises."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(unreadable address)"
    host = parts.netloc.rpartition("@")[2]
    query = re.sub(r"[^&;]+", _masked, parts.query)
    shown = urlunsplit((parts.scheme, host, parts.path, query, ""))
    shown = masked(shown, _hidden.get())[:SHOWN]
    return shown if shown.isprintable() else "".join(c for c in shown if c.isprintable())


def is_secret(name: str) -> bool:
    """Whether a parameter or header of this name carries something not to be shown."""
    return _SECRET.search(unquote_plus(name)) is not None


def _masked(pair: re.Match[str]) -> str:
    name, equals, _ = pair[0].partition("=")
    return f"{name}=***" if equals and is_secret(name) else pair[0]
