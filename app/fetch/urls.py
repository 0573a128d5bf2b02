"""URL checks, rate limit keys and origins, and masking of secrets in URLs."""

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import httpx

from app.core import redact
from app.core.errors import TooLarge, UnsafeAddress

MAX_URL_LENGTH = 8_192
MAX_SHOWN_LENGTH = 500
_PORTS = {"http": 80, "https": 443}
_SECRET = re.compile(
    r"token|secret|passw|api.?key|signature|credential|authori[sz]ation|cookie"
    r"|(?:^|[^a-z])(?:key|sig|auth|pwd|pass)(?:$|[^a-z])",
    re.IGNORECASE,
)


_hidden: ContextVar[tuple[str, ...]] = ContextVar("_hidden", default=())
MIN_SECRET_LENGTH = 4  # characters; masking a shorter secret would mask unrelated text
MIN_BODY_SECRET_LENGTH = 8  # bytes; a page has more other text


@contextmanager
def hiding_secrets(secrets: Iterable[str]) -> Generator[tuple[str, ...]]:
    """Mask these values in all URLs that `public_url` returns inside the context; yield them."""
    forms = (*_hidden.get(), *secret_forms(secrets))
    outer = _hidden.set(forms)
    try:
        yield forms
    finally:
        _hidden.reset(outer)


def secret_forms(secrets: Iterable[str]) -> tuple[str, ...]:
    """Every encoding of these values that a URL or a page may contain, longest first."""
    return redact.encoded(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)


def mask(text: str, forms: Iterable[str]) -> str:
    """`text` with each of `forms` replaced by `***`."""
    for form in forms:
        text = text.replace(form, "***")
    return text


def mask_body(body: bytes, forms: Iterable[str]) -> bytes:
    """`body` with each of `forms` that is long enough to be no other text replaced by `***`."""
    for form in forms:
        secret = form.encode()
        if len(secret) >= MIN_BODY_SECRET_LENGTH and secret in body:
            body = body.replace(secret, b"***")
    return body


def check_url(url: httpx.URL) -> None:
    """Raise UnsafeAddress unless it is http(s) with a host and no user; TooLarge if too long."""
    if len(str(url)) > MAX_URL_LENGTH:
        raise TooLarge(
            f"the URL is longer than {MAX_URL_LENGTH} characters", url=public_url(str(url))
        )
    if url.scheme not in _PORTS:
        raise UnsafeAddress(
            f"{url.scheme or 'no'} scheme: only http and https are allowed",
            url=public_url(str(url)),
        )
    if not url.raw_host:
        raise UnsafeAddress("a URL without a host", url=public_url(str(url)))
    if url.userinfo:
        raise UnsafeAddress("a URL with a user name: use a header", url=public_url(str(url)))


def host_of(url: httpx.URL) -> str:
    """The host as it is sent, in ASCII: `url.host` decodes it, which not every name allows."""
    return url.raw_host.decode("ascii", "replace")


def host_key(url: httpx.URL) -> str:
    """The key of a host's rate limits: `host:port`, always with the port."""
    return f"{host_of(url).rstrip('.')}:{url.port or _PORTS.get(url.scheme, 0)}"


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether `one` and `other` have the same scheme, host and port."""
    return one.scheme == other.scheme and host_key(one) == host_key(other)


def public_url(url: str) -> str:
    """`url` for display: as `masked_url` returns it, shortened. Never raises."""
    return masked_url(url)[:MAX_SHOWN_LENGTH]


def masked_url(url: str) -> str:
    """`url` without user and fragment, and with secrets as `***`. Never raises."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(invalid URL)"
    host = parts.netloc.rpartition("@")[2]
    query = re.sub(r"[^&;]+", _masked, parts.query)
    shown = urlunsplit((parts.scheme, host, parts.path, query, ""))
    shown = mask(shown, _hidden.get())
    return shown if shown.isprintable() else "".join(c for c in shown if c.isprintable())


def is_secret(name: str) -> bool:
    """Whether a parameter or header of this name carries a secret."""
    return _SECRET.search(unquote_plus(name)) is not None


def _masked(pair: re.Match[str]) -> str:
    name, equals, _ = pair[0].partition("=")
    return f"{name}=***" if equals and is_secret(name) else pair[0]
